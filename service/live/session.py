"""One live stream in the process that holds it: bytes to windows to answers, and what is told of them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from service.contracts import SampledWindow
from service.errors import InternalError, QueueUnavailable, StreamBusy, StreamOffsetMismatch, VidtrError
from service.live.config import StreamConfig
from service.live.inbox import Inbox
from service.live.task import LiveTask
from service.live.teller import Ledger, Teller
from service.live.window_queue import WindowQueue
from service.periodic import Periodic
from service.telemetry import metrics
from service.video.live_cell import LiveCell
from service.video.live_report import LiveAsked, LiveStart, LiveWindow
from service.video.pool import DecodePool

log = structlog.get_logger()

# Frames a second that any camera has; what sends more is decoded no further.
_MOST_FPS = 240
_KEEPS_PER_LEASE = 3
# Bytes that have waited this share of the longest delay are late, until they wait the other share only.
_LATE_SHARE, _IN_TIME_SHARE = 0.5, 0.1
_DECODER_SLOW = "decoder_slow"


class _Idle(Exception):
    """Nothing has come for the longest pause."""


class LiveSession:
    """A session that this process holds. `run` decodes it until it ends; `feeding` brings bytes.

    Attributes:
        ledger: how far it is.
    """

    def __init__(
        self,
        task: LiveTask,
        teller: Teller,
        windows: WindowQueue,
        pool: DecodePool,
        config: StreamConfig,
        folder: Path,
        *,
        clock: Callable[[], float] = time.time,
        starts_at_s: float = 0.0,
        left_s: float = math.inf,
    ) -> None:
        """`starts_at_s` is what its clock says at the first picture, of a stream that another process has begun.

        It ends after `left_s`. `folder` takes the file of its clips, `clock` gives Unix seconds of Redis.
        """
        self._task = task
        self._teller = teller
        self._windows = windows
        self._pool = pool
        self._config = config
        self._folder = folder
        self._clock = clock
        self._offset_s = starts_at_s
        self._end_at = time.monotonic() + left_s
        self._inbox = Inbox(config.stream_buffer_bytes)
        self._late = False
        self._next_number = 0
        # What fetches a source gives up first, and says why.
        self._idle_s = config.stream_idle_s + (config.stream_reconnect_s if task.request.source is not None else 0.0)
        self._fed = False
        self._base = teller.ledger.received
        self._stopped = ""
        self._failure: VidtrError | None = None
        self._decoding: asyncio.Task[str] | None = None
        self._running = True
        self._done = asyncio.Event()

    @property
    def ledger(self) -> Ledger:
        """How far it is."""
        return self._teller.ledger

    @property
    def held(self) -> int:
        """Bytes that wait for the decoder."""
        return self._inbox.held

    @property
    def running(self) -> bool:
        """Whether it takes bytes here: not once it has come to its end, of which the last windows may yet be told."""
        return self._running

    @asynccontextmanager
    async def feeding(self, offset: int | None, *, ends: Callable[[], bool]) -> AsyncIterator[Callable[[bytes], Any]]:
        """Give what takes the next bytes, from byte `offset` of the stream on; None goes on where it is.

        Bytes that have come before are passed over. The stream ends with them where `ends` says so afterwards.

        Raises StreamBusy while somebody else brings bytes, and StreamOffsetMismatch for bytes that leave a gap.
        """
        if self._fed:
            raise StreamBusy("Another request is sending this stream. Wait until it has ended.", retry_after_s=1.0)
        if offset is not None and not self._inbox.received:
            # A process that goes on with the stream of another begins where the client does.
            self._base = offset
        received = self._base + self._inbox.received
        if offset is not None and offset > received:
            raise StreamOffsetMismatch(
                f"{received} bytes of the stream have come; these begin at {offset}. Go on at {received}.",
                limit=received,
                actual=offset,
            )
        known = 0 if offset is None else received - offset

        async def put(piece: bytes) -> None:
            nonlocal known
            passed, known = min(known, len(piece)), max(0, known - len(piece))
            await self.put(piece[passed:])

        self._fed = True
        try:
            yield put
        except BaseException:
            await self._teller.state("reconnecting")
            raise
        else:
            if ends():
                self._inbox.end()
        finally:
            self._fed = False

    async def put(self, piece: bytes) -> None:
        """Take the next bytes of a source, once there is room."""
        await self._inbox.put(piece)
        self.ledger.received = self._base + self._inbox.received

    def finish(self) -> None:
        """The source has ended; what came is decoded."""
        self._inbox.end()

    def fail(self, error: VidtrError) -> None:
        """The source cannot be had: what came is decoded, then the session ends with the error."""
        self._failure = error
        self._inbox.end()

    async def note(self, state: str, **more: Any) -> None:
        """Tell how the source stands."""
        await self._teller.state(state, **more)

    @property
    def segment(self) -> int:
        """What a process that takes over begins with, of a source in segments: the number of the next; 0 at first."""
        return self.ledger.segment

    @segment.setter
    def segment(self, number: int) -> None:
        self.ledger.segment = number

    async def ended(self) -> None:
        """Return once it has ended here."""
        await self._done.wait()

    def stop(self, reason: str) -> None:
        """End it; without a reason it goes on elsewhere."""
        self._stopped = self._stopped or reason or "moved"
        self._windows.close("stopped")
        if self._decoding is not None:
            self._decoding.cancel()

    async def run(self) -> str:
        """Decode and tell until it ends; why it did. A session that another process has taken is `moved`."""
        keeping = Periodic("live-stream", self._config.stream_lease_s / _KEEPS_PER_LEASE, self._keep)
        keeping.start()
        telling = asyncio.create_task(self._teller.run(self._windows))
        try:
            reason, detail = await self._decoded()
            self._take_no_more()
            self._windows.close()
            await telling
            # What another process goes on with has not ended.
            if reason != "moved":
                await self._teller.end(reason, detail)
            elif not self._teller.lost:
                await self._teller.let_go()
            return "moved" if self._teller.lost else reason
        finally:
            self._take_no_more()
            self._windows.close("stopped")
            await keeping.close()
            await telling
            self._done.set()

    def _take_no_more(self) -> None:
        self._running = False
        self._inbox.end()

    async def _decoded(self) -> tuple[str, str]:
        """Why decoding came to its end, and what a person can read of that."""
        if self._stopped:
            return self._stopped, ""
        self._decoding = asyncio.create_task(self._decode())
        try:
            async with asyncio.timeout(max(0.0, self._end_at - time.monotonic())):
                reason = await self._decoding
            return (reason, "") if self._failure is None else (self._failure.code, self._failure.detail)
        except TimeoutError:
            return "limit", f"The session lasted {self._task.max_s:g} s."
        except asyncio.CancelledError:
            if not self._stopped:
                raise
            return self._stopped, ""
        except _Idle:
            return "idle", f"Nothing came for {self._idle_s:g} s."
        except VidtrError as error:
            # Where nothing came, that is why.
            cause = self._failure or error
            return cause.code, cause.detail
        except Exception as error:
            log.exception("live_stream_failed")
            return InternalError.code, f"The service failed ({type(error).__name__})."

    async def _decode(self) -> str:
        task = self._task
        asked = LiveAsked(
            spec=task.clip,
            request=task.request.decoding(),
            places=task.places,
            most_frames=int(task.max_s * _MOST_FPS),
            # A clock may run ahead of the time that passes, where what waited is sent at once.
            most_s=2 * task.max_s + 60.0,
            records=task.request.source is not None and task.request.source.packets,
        )
        cell = LiveCell(self._pool, task.caller.identity, asked, self._folder)
        end = await cell.run(self._feed, self._taken, self._started)
        if end.left_out:
            self._leave_out(self._next_number + end.left_out)
        return "end"

    async def _feed(self, most: int) -> tuple[bytes, bool]:
        try:
            async with asyncio.timeout(self._idle_s):
                data = await self._inbox.get(most)
        except TimeoutError:
            raise _Idle from None
        share = _IN_TIME_SHARE if self._late else _LATE_SHARE
        self._late = time.monotonic() - self._inbox.reached_at > share * self._config.stream_max_delay_s
        return data, self._late

    def _started(self, start: LiveStart) -> None:
        self._teller.opened = start

    async def _taken(self, window: LiveWindow, clips: bytes) -> None:
        start_s, end_s = (self._offset_s + at for at in (window.start_s, window.end_s))
        sampled = SampledWindow(
            start_s=start_s, end_s=end_s, times_s=tuple(self._offset_s + at for at in window.times_s)
        )
        ledger = self.ledger
        if not self._next_number and start_s > ledger.position_s > 0:
            gap = SampledWindow(start_s=ledger.told_s, end_s=start_s, times_s=())
            self._windows.note_gap(ledger.seen, gap, "interrupted")
        elif window.number > self._next_number:
            self._leave_out(window.number)
        self._next_number = window.number + 1
        self._windows.offer(ledger.seen, sampled, clips, self._inbox.reached_at)
        ledger.seen += 1
        ledger.position_s, ledger.position_at = end_s, self._clock()
        ledger.errors = window.errors
        metrics.STREAM_WINDOWS.labels("decoded").inc()

    def _leave_out(self, number: int) -> None:
        """Note that the windows before this number were left out, because their bytes had waited too long."""
        step_s = self._task.step_s
        start_s, end_s = (self._offset_s + at * step_s for at in (self._next_number, number))
        gap = SampledWindow(start_s=start_s, end_s=end_s, times_s=())
        self._windows.note_gap(self.ledger.seen, gap, _DECODER_SLOW)
        self.ledger.seen += number - self._next_number

    async def _keep(self) -> None:
        try:
            held = await self._teller.keep()
        except QueueUnavailable as error:
            log.warning("queue_unavailable", detail=error.detail)
            return
        if held == "ended":
            self.stop("deleted")
        elif held != "ours":
            self.stop("")
