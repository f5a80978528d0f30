"""Videos by URL, of web servers and of buckets: what is fetched for one process, and how callers share that."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import httpcore

from service.api.auth import Principal
from service.api.shares import Shared
from service.api.spool import Spool
from service.errors import RETRY_AFTER_S, QueueFull
from service.sources.addresses import PinnedBackend
from service.sources.buckets import SCHEMES, Buckets
from service.sources.config import SourceConfig
from service.sources.ranges import RangeClient, check_source
from service.sources.remote_file import RemoteFile


class Sources:
    """Opens videos by URL."""

    def __init__(
        self,
        config: SourceConfig,
        buckets: Buckets,
        shared: Shared,
        backend: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        """`shared` are the places of those that are read at a time."""
        self._config = config
        self._buckets = buckets
        self._shared = shared
        self._backend = backend or PinnedBackend(private=config.source_private_targets)

    @property
    def on(self) -> bool:
        """Whether any host or bucket may be read."""
        return bool(self._config.source_hosts) or self._buckets.on

    def check(self, url: str) -> None:
        """Raise SourceNotAllowed where nothing is fetched from `url`, as far as that is known without asking."""
        if url.startswith(SCHEMES):
            self._buckets.client(url)
        else:
            check_source(url, self._config)

    async def open(self, url: str, caller: Principal, spool: Spool) -> None:
        """Let `spool` hold what is read of the video at `url`.

        Raises SourceNotAllowed, QueueFull, SourceRefused, SourceUnavailable, SourceLimit, EmptyUpload, DiskFull.
        """
        in_bucket = url.startswith(SCHEMES)
        client = self._buckets.client(url) if in_bucket else RangeClient(url, self._config, self._backend)
        source = RemoteFile(client, self._config, spool)
        await spool.supply(source, self._place(caller.identity))
        if source.size is not None:
            spool.identify(f"{url}\n{source.size}\n{source.validator.text}", certain=bool(source.validator.text))

    @contextlib.contextmanager
    def _place(self, caller: str) -> Iterator[None]:
        refused = self._shared.take(caller)
        if refused is not None:
            whose = " of this caller" if refused.own else ""
            detail = (
                f"{refused.actual} videos by URL{whose} are being read; the limit is {refused.limit}. Try again later."
            )
            raise QueueFull(detail, limit=refused.limit, actual=refused.actual, retry_after_s=RETRY_AFTER_S)
        with self._shared.held_by(caller):
            yield
