"""A job whose first clips are queued while the video of the others is still being decoded.

For a caller who follows the windows as they are scored: of a film the first are there after seconds. The first clips
commit the job, as all clips of another job do; from then on it is not lost, and ends as any job does. A decode that
fails ends it with the error. Where this process dies, the reservation of the clips to come lapses, and the deadline
ends the job.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from service.api.admission import Admission, Admitted
from service.contracts import DecodedVideo, JobRecord, JobState
from service.errors import DeadlineExceeded, DecoderCrash, InternalError, QueueUnavailable, UnknownJob, VidtrError
from service.queue.capacity import Reservation
from service.queue.clock import Clock
from service.queue.codec import Outcome
from service.queue.job_intake import Clips, Stage
from service.queue.job_store import JobStore
from service.telemetry import metrics
from service.video.held_clips import HeldClips

log = structlog.get_logger()

Begin = Callable[[DecodedVideo, Clips, Reservation, Stage], Awaitable[JobRecord]]


class JobEnded(Exception):
    """The job has ended while its video was decoded: the caller deleted it, or a clip was refused."""


class _Part:
    """Some of the clips of a file."""

    def __init__(self, held: HeldClips, start: int, stop: int) -> None:
        self._held = held
        self._start = start
        self._size = stop - start

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, piece: slice, /) -> bytes:
        start, stop, _ = piece.indices(self._size)
        return self._held[self._start + start : self._start + stop]


class Staging:
    """Queues what a decode tells of. `decode`, then `end` if the job has `begun`; `give_up` where either fails.

    Attributes:
        record: the job's record once it has begun, with the times of all frames that were told of.
    """

    def __init__(
        self, clips: Path, store: JobStore, admission: Admission, admitted: Admitted, clock: Clock, begin: Begin
    ) -> None:
        """`begin` commits the job with the first of the `clips`, and what stays reserved for the others."""
        self._path = clips
        self._store = store
        self._admission = admission
        self._admitted = admitted
        self._clock = clock
        self._begin = begin
        self._known: tuple[DecodedVideo, int] | None = None
        self._news = asyncio.Event()
        self._complete = False
        self._pixels: HeldClips | None = None
        self._queued = 0
        self.begun = False
        """whether there may be a job"""
        self.record: JobRecord | None = None

    def progress(self, known: DecodedVideo, ready: int) -> None:
        """So many windows have their clips; `service.video.pool` calls this."""
        self._known = known, ready
        self._news.set()

    async def decode(self, decoding: Coroutine[None, None, DecodedVideo]) -> DecodedVideo:
        """What `decoding` finds, while its clips are queued.

        Raises what `decoding` and the queue raise, and JobEnded; the decode is ended then.
        """
        decode, queueing = asyncio.create_task(decoding), asyncio.create_task(self._queue())
        try:
            await asyncio.wait({decode, queueing}, return_when=asyncio.FIRST_COMPLETED)
            if decode.done():
                self._stop()
                await queueing
            elif queueing.exception() is not None:
                await queueing
            return await decode
        finally:
            self._stop()
            for task in (decode, queueing):
                task.cancel()
            await _ended(decode, queueing)

    async def end(self, decoded: DecodedVideo) -> JobRecord:
        """Queue the last clips, with what is known of the whole video. Raises JobEnded, QueueUnavailable."""
        await _to_its_end(self._add(decoded, decoded.clip_count))
        return self.job

    @property
    def job(self) -> JobRecord:
        """The record of the job that has begun."""
        if self.record is None:
            raise RuntimeError("the job has not begun")
        return self.record

    async def give_up(self, error: BaseException) -> None:
        """End the job, if it has begun, because of `error`. Where the caller is gone it is deleted."""
        if not self.begun:
            return
        job_id = self._admitted.job_id
        with contextlib.suppress(QueueUnavailable, UnknownJob):
            if isinstance(error, asyncio.CancelledError):
                state = JobState.CANCELLED
                ended = await self._store.cancel(job_id)
            else:
                outcome = _outcome_of(error)
                state = outcome.state
                ended = await self._store.finish(job_id, outcome)
            if ended:
                metrics.JOBS.labels(state).inc()
                log.warning("job_failed", job=job_id, state=state, code=getattr(error, "code", "cancelled"))

    def close(self) -> None:
        """Close the file of the clips."""
        if self._pixels is not None:
            self._pixels.close()

    def _stop(self) -> None:
        self._complete = True
        self._news.set()

    async def _queue(self) -> None:
        # Ends by an event: in Python 3.11 a cancellation that meets the end of a Redis command is lost.
        while not self._complete:
            await self._news.wait()
            self._news.clear()
            if self._known is not None and not self._complete:
                known, windows = self._known
                await _to_its_end(self._add(known, windows * known.crops))

    async def _add(self, known: DecodedVideo, ready: int) -> None:
        """Queue the clips up to number `ready`; the last ones where those are all."""
        total = len(known.windows) * known.crops
        size, first = self._admitted.spec.clip_bytes, self._queued
        if ready <= first:
            # The video is decoded anew, because its decode process was lost.
            return
        reservation = self._admitted.reservation
        left = replace(reservation, clips=total - ready)
        stage = Stage(ready, left) if ready < total else None
        if self._pixels is None:
            self._pixels = HeldClips(self._path, total * size)
        part = _Part(self._pixels, first * size, ready * size)
        with self._admission.passing_on(self._admitted, left):
            if self.record is None:
                if stage is None:
                    raise RuntimeError("a job of one stage is no job in stages")
                self.begun = True
                self.record = await self._begin(known, part, reservation, stage)
            else:
                _check_same(self.record.decoded, known)
                update = {"decoded": known, "enqueued_at": self._clock.now()}
                self.record = self.record.model_copy(update=update)
                added = await self._store.add_clips(
                    self.record, part, first=first, reservation=reservation, stage=stage
                )
                if not added:
                    raise JobEnded
        self._queued = ready


def _check_same(before: DecodedVideo, after: DecodedVideo) -> None:
    bounds = [[(window.start_s, window.end_s) for window in known.windows] for known in (before, after)]
    if bounds[0] != bounds[1]:
        raise DecoderCrash("The decode process found other windows than it had reported.")


def _outcome_of(error: BaseException) -> Outcome:
    if isinstance(error, DeadlineExceeded):
        return Outcome(JobState.EXPIRED, error=error)
    if isinstance(error, VidtrError):
        return Outcome(JobState.FAILED, error=error)
    return Outcome(JobState.FAILED, error=InternalError("The service failed while it decoded the video."))


async def _to_its_end(work: Coroutine[None, None, None]) -> None:
    """Do the work. A cancellation is raised only once it is done: what it has written is known then."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await _ended(task)
        raise


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    """Return once these have ended, whatever they raise."""
    await asyncio.gather(*tasks, return_exceptions=True)
