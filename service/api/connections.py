"""Limits on connections, per address and in all, and which idle connection is closed for a new one.

A connection costs a descriptor before the application hears of it. So they are counted here, below the application, and
those in which no request is under way give way to new ones: silence never keeps others out.
"""

from __future__ import annotations

import ipaddress
import resource
import time
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

import structlog

from service.api.auth import network
from service.cores import usable_cores
from service.telemetry import metrics

log = structlog.get_logger()

# Descriptors of the process itself: listening sockets, event loop, pools of connections to Redis, logs, libraries.
OWN_DESCRIPTORS = 64
# An upload may hold a spool file, its clips, and a connection to Redis beside the client's own.
DESCRIPTORS_PER_UPLOAD = 3
DESCRIPTORS_PER_DECODE_PROCESS = 4
FEWEST_CONNECTIONS = 16
LOG_INTERVAL_S = 1.0


@dataclass(frozen=True)
class ConnectionConfig:
    """Field names equal those of `service.settings.Settings`."""

    max_header_bytes: int
    max_headers: int
    max_url_bytes: int
    head_timeout_s: float
    answer_stall_s: float
    max_connections: int
    max_connections_per_address: int
    max_concurrent_uploads: int
    decode_workers: int
    trusted_proxies: tuple[str, ...]
    cors_origins: tuple[str, ...] = ()


class Connection(Protocol):
    """What `Connections` asks of a connection."""

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""

    def give_way(self) -> None:
        """Close, so that another connection can take the place."""


class Connections:
    """The open connections of one api process. Used by its event loop alone."""

    def __init__(self, config: ConnectionConfig, descriptors: int | None = None) -> None:
        self.config = config
        self.limit = _within_descriptors(config, soft_limit() if descriptors is None else descriptors)
        self.limit_per_address = min(config.max_connections_per_address, max(1, self.limit // 2))
        # Of each place its connections, oldest first.
        self._open: dict[str, dict[Connection, None]] = {}
        self._places: dict[Connection, str] = {}
        self._logged_at: dict[str, float] = {}
        self._unlogged: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._places)

    def admit(self, connection: Connection, address: str | None) -> bool:
        """Count a new connection, if need be in the place of an idle one. False where all are in use."""
        place = network(address)
        here = self._open.get(place, {})
        if len(here) >= self.limit_per_address and not self._shared(address) and not self._make_room([place]):
            return False
        if len(self) >= self.limit and not self._make_room(sorted(self._open, key=self._share, reverse=True)):
            return False
        self._open.setdefault(place, {})[connection] = None
        self._places[connection] = place
        metrics.CONNECTIONS.set(len(self))
        return True

    def remove(self, connection: Connection) -> None:
        """Forget a connection; harmless for one that was not admitted."""
        place = self._places.pop(connection, None)
        if place is None:
            return
        del self._open[place][connection]
        if not self._open[place]:
            del self._open[place]
        metrics.CONNECTIONS.set(len(self))

    def _share(self, place: str) -> int:
        return len(self._open[place])

    def _shared(self, address: str | None) -> bool:
        """Whether many callers come from this address: a proxy's, or that of a unix socket."""
        return address is None or among(address, self.config.trusted_proxies)

    def _make_room(self, places: list[str]) -> bool:
        """Let the oldest idle connection go, of the first of `places` that has one."""
        for place in places:
            for connection in self._open[place]:
                if connection.idle:
                    self.closed("gave_way", place)
                    self.remove(connection)
                    connection.give_way()
                    return True
        return False

    def closed(self, reason: str, address: str | None) -> None:
        """Count a connection that the service ends by itself; one line a second and reason in the log, however many."""
        metrics.CONNECTIONS_CLOSED.labels(reason).inc()
        self._unlogged[reason] += 1
        now = time.monotonic()
        if now - self._logged_at.get(reason, -LOG_INTERVAL_S) >= LOG_INTERVAL_S:
            self._logged_at[reason] = now
            log.warning("connection_closed", reason=reason, address=address, count=self._unlogged.pop(reason))


def _within_descriptors(config: ConnectionConfig, descriptors: int) -> int:
    """How many connections the process can hold; a warning where that is fewer than are asked for."""
    needed = (
        OWN_DESCRIPTORS
        + DESCRIPTORS_PER_UPLOAD * config.max_concurrent_uploads
        + DESCRIPTORS_PER_DECODE_PROCESS * (config.decode_workers or usable_cores())
    )
    limit = min(config.max_connections, max(FEWEST_CONNECTIONS, descriptors - needed))
    if limit < config.max_connections:
        log.warning(
            "few_descriptors",
            detail="The limit of open files (ulimit -n) allows fewer connections than `max_connections`.",
            descriptors=descriptors,
            descriptors_needed=config.max_connections + needed,
            max_connections=config.max_connections,
            connections=limit,
        )
    return limit


def among(address: str, networks: tuple[str, ...]) -> bool:
    """Whether `address` is one of these addresses and networks; `*` is all."""
    for entry in networks:
        if entry in ("*", address):
            return True
        try:
            if ipaddress.ip_address(address) in ipaddress.ip_network(entry, strict=False):
                return True
        except ValueError:
            continue
    return False


def soft_limit() -> int:
    """How many descriptors this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft
