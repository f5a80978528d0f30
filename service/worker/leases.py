"""The entries that a worker holds, and the renewal of their leases while it works on them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import structlog

from service.errors import QueueUnavailable
from service.queue.clip_entries import ClipEntry
from service.queue.clip_stream import ClipStream

log = structlog.get_logger()

# Two renewals may fail before a lease ends.
RENEWALS_PER_LEASE = 3


class Leases:
    """What one worker holds now. An entry leaves when it is done, or when a renewal finds it in other hands."""

    def __init__(self, stream: ClipStream, lease_s: float) -> None:
        self._stream = stream
        self._every_s = lease_s / RENEWALS_PER_LEASE
        self._held: set[ClipEntry] = set()

    @contextlib.asynccontextmanager
    async def hold(self, entries: Sequence[ClipEntry]) -> AsyncIterator[None]:
        """Renew the leases of `entries` until the end of the context."""
        self._held.update(entries)
        done = asyncio.Event()
        renewal = asyncio.create_task(self._renew(done), name="leases")
        try:
            yield
        finally:
            # Not cancelled: in Python 3.11 a cancellation that meets the end of a Redis command is lost with it.
            done.set()
            await renewal
            self._held.difference_update(entries)

    def kept(self, entries: Sequence[ClipEntry]) -> list[ClipEntry]:
        """Those of `entries` that this worker still holds, as far as it knows."""
        return [entry for entry in entries if entry in self._held]

    def done(self, entries: Sequence[ClipEntry]) -> None:
        """Stop renewing these."""
        self._held.difference_update(entries)

    async def check(self, entries: Sequence[ClipEntry]) -> list[ClipEntry]:
        """Renew now, and return those of `entries` that this worker still holds."""
        lost = set(entries) - await self._stream.renew(entries)
        if lost:
            log.warning("leases_lost", clips=len(lost))
            self._held -= lost
        return self.kept(entries)

    async def _renew(self, done: asyncio.Event) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await done.wait()
            if done.is_set():
                return
            # The next renewal may come in time; a lease that ends meanwhile costs a second scoring and nothing else.
            with contextlib.suppress(QueueUnavailable):
                await self.check(list(self._held))
