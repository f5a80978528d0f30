"""The entries that a worker holds, and the renewal of their leases while it works on them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import structlog

from service.errors import QueueUnavailable
from service.periodic import wait_or_timeout
from service.queue.clip_entries import ClipEntry
from service.queue.clip_stream import ClipStream

log = structlog.get_logger()

# Two renewals may fail before a lease ends.
RENEWALS_PER_LEASE = 3


class Leases:
    """The entries that one worker holds. One leaves when it is done, or when a renewal finds it at another worker."""

    def __init__(self, stream: ClipStream, lease_s: float) -> None:
        self._stream = stream
        self._every_s = lease_s / RENEWALS_PER_LEASE
        self._held: set[ClipEntry] = set()
        self._renewing = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def hold(self, entries: Sequence[ClipEntry]) -> AsyncIterator[None]:
        """Renew the leases of `entries` until the end of the context."""
        # A lease that lapsed may come back to this worker while it still works on the earlier delivery, whose renewals
        # would then take this delivery back from the count.
        places = {_place(entry) for entry in entries}
        self._held = {held for held in self._held if _place(held) not in places}
        self._held.update(entries)
        done = asyncio.Event()
        renewal = asyncio.create_task(self._renew(entries, done), name="leases")
        try:
            yield
        finally:
            done.set()
            await renewal
            self._held.difference_update(entries)

    def kept(self, entries: Sequence[ClipEntry]) -> list[ClipEntry]:
        """Those of `entries` that this worker still holds, as far as it knows."""
        return [entry for entry in entries if entry in self._held]

    def done(self, entries: Sequence[ClipEntry]) -> None:
        """Stop renewing these."""
        self._held.difference_update(entries)

    async def release(self, entries: Sequence[ClipEntry]) -> None:
        """Stop renewing these before they are given back: a renewal that comes later would take them again."""
        self.done(entries)
        # One that is on its way may have them.
        async with self._renewing:
            pass

    async def check(self, entries: Sequence[ClipEntry]) -> list[ClipEntry]:
        """Renew now, and return those of `entries` that this worker still holds."""
        lost = set(entries) - await self._stream.renew(entries)
        if lost:
            log.warning("leases_lost", clips=len(lost))
            self._held -= lost
        return self.kept(entries)

    async def _renew(self, entries: Sequence[ClipEntry], done: asyncio.Event) -> None:
        while not await wait_or_timeout(done, self._every_s):
            # The next renewal may be in time; a lease that ends meanwhile only costs a second scoring.
            with contextlib.suppress(QueueUnavailable):
                async with self._renewing:
                    await self.check(self.kept(entries))


def _place(entry: ClipEntry) -> tuple[str, str, str]:
    return entry.route, entry.job_class, entry.entry_id
