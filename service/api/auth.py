"""Authentication: the principal behind a request, by API key or by address, and its quotas."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Annotated, Literal

import structlog
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.api.api_keys import ApiKeyStore
from service.errors import QueueUnavailable, QuotaExceeded, Unauthorized
from service.queue.partitions import PerPartition
from service.queue.quota import QuotaLimits, Quotas, QuotaState
from service.telemetry import metrics

log = structlog.get_logger()

# One household or server gets a whole network of this size.
IPV6_NETWORK_BITS = 64


@dataclass(frozen=True)
class AuthConfig:
    """Field names equal those of `service.settings.Settings`."""

    host: str
    anonymous: Literal["loopback", "allow", "deny"]
    trusted_proxies: tuple[str, ...]
    quota_requests: str | None
    quota_video_seconds: str | None

    @cached_property
    def loopback(self) -> bool:
        """Whether only processes of this machine can reach the API."""
        try:
            loopback = ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            loopback = self.host == "localhost"
        # Behind a proxy the whole world may come from the loopback address.
        return loopback and not self.trusted_proxies

    @cached_property
    def open(self) -> bool:
        """Whether requests without a key are let in."""
        return self.anonymous == "allow" or (self.anonymous == "loopback" and self.loopback)


# What the tenants of callers without a key begin with; a name of a key never does.
KEYLESS = "address:"


@dataclass(frozen=True)
class Principal:
    """The sender of a request, and what it may use."""

    owner: str
    """name of the API key; empty for a request without one"""
    tenant: str
    """whose jobs, Idempotency-Keys and earlier results they are: the name of the API key, else `address:` and the
    network; empty on one's own machine, where all who send no key are one"""
    identity: str
    """what quotas and shares are counted by, and decode processes kept apart by"""
    limits: QuotaLimits

    def may_erase(self, owner: str) -> bool:
        """Whether a job of this tenant may be deleted by its id."""
        # The release before gave all callers without a key one tenant.
        return owner == self.tenant or (not owner and not self.owner)

    def may_read(self, owner: str) -> bool:
        """Whether a job of this tenant may be read by its id.

        Among callers without a key the id is enough: a phone changes its network, and the receiver of a webhook is
        another machine.
        """
        return self.may_erase(owner) or (not self.owner and owner.startswith(KEYLESS))


class Authenticator:
    """Identifies callers and keeps them to their quotas."""

    def __init__(self, config: AuthConfig, api_keys: ApiKeyStore, quotas: PerPartition[Quotas]) -> None:
        self._config = config
        self._api_keys = api_keys
        self._quotas = quotas
        self._proxy_warned = False

    @property
    def lists_anonymous_jobs(self) -> bool:
        """Whether a caller without a key may see all jobs of callers without a key: only on one's own machine."""
        return self._config.loopback

    def log_policy(self) -> None:
        """Say in the log who may come in."""
        names = self._api_keys.names()
        log.info("access", keys=names, anonymous="let in" if self._config.open else "refused", host=self._config.host)
        if self._config.open and not self._config.loopback:
            log.warning(
                "anonymous_access_enabled",
                detail="Requests without an API key are accepted, and others may reach this address.",
            )
        if not self._config.open and not names:
            log.warning(
                "no_api_keys_configured",
                detail="All requests are refused: no API key is configured, and each needs one.",
            )

    def identify(self, key: str | None, address: str | None) -> Principal:
        """The caller with this key, or at this address. Raises Unauthorized."""
        if key is None:
            if not self._config.open:
                raise self._refused("The request has no API key. Send one as `Authorization: Bearer <key>`.")
            limits = QuotaLimits(self._config.quota_requests, self._config.quota_video_seconds)
            identity = f"{KEYLESS}{network(address)}"
            return Principal("", "" if self._config.loopback else identity, identity, limits)
        entry = self._api_keys.find(key)
        if entry is None:
            raise self._refused("The API key is unknown or has expired. Ask the operator for a valid one.")
        limits = QuotaLimits(
            entry.requests or self._config.quota_requests, entry.video_seconds or self._config.quota_video_seconds
        )
        return Principal(entry.name, entry.name, f"key:{entry.name}", limits)

    def again(self, owner: str, tenant: str, identity: str) -> Principal:
        """The caller of an earlier request, with the limits that it has now. Raises Unauthorized."""
        requests, video_seconds = self._config.quota_requests, self._config.quota_video_seconds
        if owner:
            entry = self._api_keys.named(owner)
            if entry is None:
                raise self._refused(f"The API key {owner!r} of the batch has been removed or has expired.")
            requests, video_seconds = entry.requests or requests, entry.video_seconds or video_seconds
        return Principal(owner, tenant, identity, QuotaLimits(requests, video_seconds))

    def forwarded(self, address: str | None, forwarded_for: str) -> None:
        """Say once that a proxy speaks for its clients and is not believed, so that they all count as one caller."""
        if self._proxy_warned or str(address) in map(str.strip, forwarded_for.split(",")):
            return
        self._proxy_warned = True
        detail = (
            "X-Forwarded-For was ignored: `trusted_proxies` does not list the address that sent it. All clients behind"
            " it without an API key count as one caller."
        )
        log.warning("proxy_not_trusted", detail=detail, address=address)

    @property
    def only_one(self) -> bool:
        """Whether there can be only one caller, so that shares do not apply."""
        if self._config.open:
            return self._config.loopback and not self._api_keys.names()
        return len(self._api_keys.names()) <= 1

    async def check(self, caller: Principal) -> None:
        """Refuse an upload of a caller who has nothing left; takes nothing. Raises QuotaExceeded."""
        with _counted():
            await self._of(caller).check(caller.identity, caller.limits, "requests")
            await self._of(caller).check(caller.identity, caller.limits, "video_seconds")

    async def admit(self, caller: Principal) -> None:
        """Count an upload before its body is read, once there is a place for it. Raises QuotaExceeded."""
        with _counted():
            await self._of(caller).spend(caller.identity, caller.limits, "requests", 1)

    async def charge(self, caller: Principal, video_s: int) -> None:
        """Count the seconds of a video, now that they are known. Raises QuotaExceeded."""
        await self._of(caller).spend(caller.identity, caller.limits, "video_seconds", video_s)

    async def charge_failed(self, caller: Principal, decode_s: int) -> None:
        """Count a video that cannot be decoded by the seconds that this took to find out, or by what is left."""
        with contextlib.suppress(QueueUnavailable):
            await self._of(caller).spend_left(caller.identity, caller.limits, "video_seconds", decode_s)

    async def headers(self, caller: Principal) -> dict[str, str]:
        """`RateLimit-Policy` and `RateLimit`, where the caller has limits and Redis says how they stand."""
        try:
            return rate_limit_headers(await self._of(caller).states(caller.identity, caller.limits))
        except QueueUnavailable:
            return {}

    def _of(self, caller: Principal) -> Quotas:
        return self._quotas.home(caller.identity)

    @staticmethod
    def _refused(detail: str) -> Unauthorized:
        metrics.ADMISSION_REJECTS.labels(Unauthorized.code).inc()
        return Unauthorized(detail)


@contextlib.contextmanager
def _counted() -> Iterator[None]:
    try:
        yield
    except QuotaExceeded as error:
        metrics.ADMISSION_REJECTS.labels(error.code).inc()
        raise


@lru_cache(maxsize=1024)
def network(address: str | None) -> str:
    """What an address is counted as: itself, or for IPv6 its network; `local` for a unix socket."""
    if address is None:
        return "local"
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed.packed, IPV6_NETWORK_BITS), strict=False))
    return str(parsed)


def rate_limit_headers(states: list[QuotaState]) -> dict[str, str]:
    """The header fields of draft-ietf-httpapi-ratelimit-headers, one member per limit."""
    if not states:
        return {}
    return {
        "RateLimit-Policy": ", ".join(f'"{state.kind}";q={state.amount};w={state.window_s}' for state in states),
        "RateLimit": ", ".join(f'"{state.kind}";r={state.remaining};t={round(state.reset_s)}' for state in states),
    }


_bearer = HTTPBearer(auto_error=False, description="an API key; not needed where requests without one are let in")


async def identified(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    """Dependency of every route of `/v1`: who sends the request. Raises Unauthorized."""
    auth: Authenticator = request.app.state.api.auth
    client = request.client
    if credentials is None and (forwarded_for := request.headers.get("x-forwarded-for")) is not None:
        auth.forwarded(client.host if client else None, forwarded_for)
    return auth.identify(credentials.credentials if credentials else None, client.host if client else None)


async def sender(request: Request) -> Principal:
    """`identified` for a route that reads its requests by itself. Raises Unauthorized."""
    return await identified(request, await _bearer(request))


CurrentPrincipal = Annotated[Principal, Depends(identified)]
