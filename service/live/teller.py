"""What is told of a session: its windows in order, what was dropped, and how it stands."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

import structlog

from service.contracts import WindowResult
from service.errors import QueueUnavailable
from service.live.window_queue import Entry, WindowQueue
from service.queue.live_streams import Held, LiveStreams
from service.telemetry import metrics
from service.video.live_report import LiveStart

log = structlog.get_logger()

# Where Redis is away, what is to be told waits; a failover takes seconds.
_TRIES, _PAUSE_S = 20, 0.5


@dataclass
class Ledger:
    """How far a session is.

    Attributes:
        seen: windows that were decoded, with those before another process took over.
        windows: windows that were told of with an answer.
        dropped: windows that were told of without one.
        received: bytes of the stream that have come.
        position_s: the end of the last window that was decoded, on the session's clock.
        position_at: when that was, in Unix seconds of Redis.
        told_s: the end of the last window that was told of.
        errors: packets that did not decode.
        segment: the number of the next segment of a source in segments; 0 at first.
        delay_s: how long after its last byte had come the last window was told of.
    """

    seen: int = 0
    windows: int = 0
    dropped: int = 0
    received: int = 0
    position_s: float = 0.0
    position_at: float = 0.0
    told_s: float = 0.0
    errors: int = 0
    segment: int = 0
    delay_s: float = 0.0

    @classmethod
    def of(cls, counters: Mapping[str, float]) -> Ledger:
        """That of a session in Redis."""
        kinds = asdict(cls())
        return cls(**{name: type(kind)(counters.get(name, kind)) for name, kind in kinds.items()})


class Teller:
    """Writes events of one session, as long as this process holds it.

    Attributes:
        ledger: how far the session is.
        opened: what the stream is, once that is known.
        lost: whether another process holds the session, or none does any more.
    """

    def __init__(
        self, stream_id: str, holder: str, streams: LiveStreams, ledger: Ledger, step_s: float, most_events: int
    ) -> None:
        """`step_s` is the distance of windows; so many events are kept."""
        self._id = stream_id
        self._holder = holder
        self._streams = streams
        self._step_s = step_s
        self._most = most_events
        self.ledger = ledger
        self.opened: LiveStart | None = None
        self.lost = False

    async def run(self, windows: WindowQueue) -> None:
        """Tell of the windows until there are no more."""
        while found := await windows.next():
            if self.lost:
                continue
            if (result := found[0].result) is not None:
                await self._answer(found[0], result)
            else:
                await self._dropped(found)

    async def _answer(self, entry: Entry, result: WindowResult) -> None:
        ledger = self.ledger
        ledger.delay_s = round(time.monotonic() - entry.arrived_at, 3)
        ledger.windows += 1
        ledger.told_s = entry.window.end_s
        said = {"number": entry.number, **result.model_dump(mode="json", exclude_none=True), "delay_s": ledger.delay_s}
        if await self._tell("window", said):
            metrics.STREAM_WINDOWS.labels("told").inc()
            metrics.STREAM_DELAY.observe(ledger.delay_s)

    async def _dropped(self, entries: list[Entry]) -> None:
        first, last = entries[0].window, entries[-1].window
        # Of a gap it is known only how long it was.
        unseen = max(1, round((last.end_s - first.start_s) / self._step_s)) if not first.times_s else 0
        count = unseen or len(entries)
        self.ledger.dropped += count
        self.ledger.told_s = last.end_s
        said = {"from_s": first.start_s, "to_s": last.end_s, "why": entries[0].why, "windows": count}
        if await self._tell("dropped", said):
            metrics.STREAM_WINDOWS.labels("dropped").inc(count)

    async def state(self, state: str, **more: Any) -> None:
        """Tell how the session stands."""
        await self._tell("state", {"state": state, **more})

    async def end(self, reason: str, detail: str) -> None:
        """Tell why the session has ended; nothing is told after it."""
        said = {"state": "ended", "reason": reason, **({"detail": detail} if detail else {})}
        await self._tell("state", said, ended=reason)

    async def let_go(self) -> None:
        """Let another process hold the session at once."""
        with contextlib.suppress(QueueUnavailable):
            await self._streams.hold(self._id, self._holder, "keep", counters=asdict(self.ledger), let_go=True)

    async def keep(self) -> Held:
        """Go on holding the session. Raises QueueUnavailable."""
        held, _ = await self._streams.hold(self._id, self._holder, "keep", counters=asdict(self.ledger))
        self.lost = self.lost or held != "ours"
        return held

    async def _tell(self, kind: str, said: dict[str, Any], ended: str = "") -> bool:
        call = uuid4().hex
        for _ in range(_TRIES):
            if self.lost:
                break
            try:
                held, _ = await self._streams.hold(
                    self._id,
                    self._holder,
                    "keep",
                    event={"event": kind, "data": said},
                    counters=asdict(self.ledger),
                    ended=ended,
                    most_events=self._most,
                    call=call,
                )
            except QueueUnavailable as error:
                log.warning("queue_unavailable", detail=error.detail)
                await asyncio.sleep(_PAUSE_S)
                continue
            self.lost = held != "ours"
            return not self.lost
        return False
