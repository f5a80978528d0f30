"""The live streams of one process: begun, found, taken over from a process that is gone, and ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import Protocol
from uuid import uuid4

import structlog

from service.contracts import SampledWindow, WindowResult
from service.errors import QueueUnavailable, StreamEnded, UnknownStream, VidtrError
from service.live.config import StreamConfig
from service.live.pull import Pull
from service.live.session import LiveSession
from service.live.task import LiveTask
from service.live.teller import Ledger, Teller
from service.live.window_queue import WindowQueue
from service.periodic import Periodic
from service.queue.clock import Clock
from service.queue.live_streams import LiveState, LiveStreams, Mode
from service.queue.partitions import PerPartition, job_id_in
from service.telemetry import metrics
from service.video.pool import DecodePool

log = structlog.get_logger()
_random = SystemRandom()


class Scorer(Protocol):
    """Gets windows scored by the workers."""

    async def score(self, task: LiveTask, window: SampledWindow, clips: bytes) -> WindowResult:
        """The answer for a window. Raises VidtrError where there will be none."""


class Places(Protocol):
    """How many sessions a process, and each caller, may have at a time."""

    def take_place(self, caller: str) -> None:
        """Take one more. Raises QueueFull."""

    def give_back(self, caller: str) -> None:
        """Give one back."""


class LiveSessions:
    """Owned by the app, one per process. Methods raise QueueUnavailable when Redis cannot be reached."""

    def __init__(
        self,
        config: StreamConfig,
        streams: PerPartition[LiveStreams],
        clocks: PerPartition[Clock],
        pool: DecodePool,
        folder: Path,
        scorer: Scorer,
        places: Places,
        pull: Pull,
        draining: Callable[[], bool] = lambda: False,
    ) -> None:
        """`folder` takes the files of clips; `pull` fetches streams with a source."""
        self._config = config
        self._streams = streams
        self._clocks = clocks
        self._pool = pool
        self._folder = folder
        self._scorer = scorer
        self._places = places
        self._pull = pull
        self._draining = draining
        self._holder = uuid4().hex
        self._here: dict[str, LiveSession] = {}
        self._running: set[asyncio.Task[None]] = set()
        # One at a time: two requests for one session must not make two of it.
        self._opening = asyncio.Lock()
        self._adopting = Periodic("live-streams", config.stream_lease_s / 2, self._adopt)

    def start(self) -> None:
        """Begin to take over what other processes leave behind; call once, in the event loop."""
        self._adopting.start()

    async def close(self) -> None:
        """Let go of all sessions: other processes go on with them."""
        await self._adopting.close()
        for session in self._here.values():
            session.stop("")
        await asyncio.gather(*self._running, return_exceptions=True)

    async def begin(self, task: LiveTask) -> LiveState:
        """Begin a session. One with a source runs at once, another when its first bytes come.

        Raises QueueFull where this process, or the caller, has no place for one more.
        """
        self._places.take_place(task.caller.identity)
        self._places.give_back(task.caller.identity)
        pulled = task.request.source is not None
        stream_id = job_id_in(_random.randrange(len(self._streams)), len(self._streams))
        streams, clock = self._streams.of(stream_id), self._clocks.of(stream_id)
        await streams.create(
            stream_id,
            task.caller.tenant,
            task.model_dump(mode="json"),
            await clock.time(),
            pulled=pulled,
            webhook=task.request.webhook,
        )
        if pulled:
            await self.open(stream_id, "take")
        return await self.find(stream_id)

    async def find(self, stream_id: str) -> LiveState:
        """How a session stands. Raises UnknownStream."""
        state = await self._streams.of(stream_id).find(stream_id)
        if state is None:
            raise UnknownStream(
                f"There is no live stream {stream_id}: it never was, or nothing came for too long, or it ended more "
                "than `stream_keep_s` ago."
            )
        return state

    def ledger(self, state: LiveState) -> Ledger:
        """How far a session is: as this process knows it, or as another has written."""
        here = self._here.get(state.id)
        return here.ledger if here is not None else Ledger.of(state.counters)

    async def now(self, stream_id: str) -> float:
        """Unix seconds, by the clock of what is kept of a session."""
        return await self._clocks.of(stream_id).time()

    async def open(self, stream_id: str, mode: Mode) -> LiveSession:
        """The session, held by this process from now on.

        Raises UnknownStream, StreamEnded, QueueFull, StreamBusy.
        """
        ending = self._here.get(stream_id)
        if ending is not None and not ending.running:
            # Why it ended is written by then.
            await ending.ended()
        async with self._opening:
            here = self._here.get(stream_id)
            if here is not None and here.running:
                return here
            return await self._open(stream_id, mode)

    async def end(self, stream_id: str) -> None:
        """End a session, of whichever process. Raises UnknownStream."""
        here = self._here.get(stream_id)
        if here is not None:
            here.stop("deleted")
            await here.ended()
            return
        await self.find(stream_id)
        event = {"event": "state", "data": {"state": "ended", "reason": "deleted"}}
        # The process that holds it learns of its end when it writes next.
        await self._streams.of(stream_id).hold(stream_id, self._holder, "steal", event=event, ended="deleted")

    async def _open(self, stream_id: str, mode: Mode) -> LiveSession:
        state = await self.find(stream_id)
        if state.ended:
            raise ended(state)
        task = LiveTask.model_validate(state.task)
        caller = task.caller.identity
        self._places.take_place(caller)
        try:
            session = await self._held(state, task, mode)
        except BaseException:
            self._places.give_back(caller)
            raise
        self._here[stream_id] = session
        running = asyncio.create_task(self._run(stream_id, session, task), name=f"live-{stream_id}")
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return session

    async def _held(self, state: LiveState, task: LiveTask, mode: Mode) -> LiveSession:
        """A session that no other process can write any more. What another process has told of it is known then."""
        streams, clock = self._streams.of(state.id), self._clocks.of(state.id)
        held, _ = await streams.hold(state.id, self._holder, mode)
        if held != "ours":
            state = await self.find(state.id)
            raise ended(state)
        state = await self.find(state.id)
        ledger, now = Ledger.of(state.counters), await clock.time()
        most_waiting = task.most_waiting(self._config.stream_max_waiting, self._config.stream_clip_bytes)
        teller = Teller(state.id, self._holder, streams, ledger, task.step_s, self._config.stream_keep_events)
        again = ledger.received > 0 or ledger.seen > 0
        await teller.state("resumed" if again else "started")
        # While no process decoded, time has passed for what the stream shows too.
        away_s = max(0.0, now - ledger.position_at) if ledger.position_at else 0.0
        return LiveSession(
            task,
            teller,
            WindowQueue(partial(self._scorer.score, task), most_waiting),
            self._pool,
            self._config,
            self._folder,
            clock=clock.now,
            starts_at_s=ledger.position_s + away_s if again else 0.0,
            left_s=state.created_at + task.max_s - now,
        )

    async def _run(self, stream_id: str, session: LiveSession, task: LiveTask) -> None:
        metrics.STREAMS.inc()
        feeding: asyncio.Task[None] | None = None
        try:
            if task.request.source is not None:
                feeding = asyncio.create_task(self._pull.run(task.request.source, session))
            reason = await session.run()
            metrics.STREAM_ENDS.labels(_label(reason)).inc()
            log.info("live_stream_ended", stream=stream_id, reason=reason)
        finally:
            if feeding is not None:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)
            metrics.STREAMS.dec()
            self._places.give_back(task.caller.identity)
            # By now it may have come back.
            if self._here.get(stream_id) is session:
                del self._here[stream_id]

    async def _adopt(self) -> None:
        if self._draining():
            return
        for streams, clock in zip(self._streams, self._clocks, strict=True):
            try:
                for stream_id in await streams.abandoned(await clock.time()):
                    await self.open(stream_id, "take")
                    log.info("live_stream_taken_over", stream=stream_id)
            except QueueUnavailable as error:
                log.warning("queue_unavailable", detail=error.detail)
            except VidtrError as error:
                # Another process was faster, or there is no place here.
                log.info("live_stream_not_taken_over", detail=error.detail)


ENDS = ("end", "idle", "limit", "deleted", "moved")


def _label(reason: str) -> str:
    return reason if reason in ENDS else "failed"


def ended(state: LiveState) -> StreamEnded:
    """The error for a session that takes no more."""
    reason = state.ended or "held by another process"
    return StreamEnded(f"The live stream {state.id} takes no more: {reason}. Begin another.", actual=reason)
