"""The windows of live streams as jobs: each is a small job of the queue, and is erased once its answer was read."""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict

import structlog

from service.api.admission import Admission, Admitted
from service.api.auth import Authenticator, Principal
from service.api.shares import Shared
from service.contracts import DecodedVideo, JobRecord, JobState, SampledWindow, VideoInfo, WindowResult
from service.errors import (
    RETRY_AFTER_S,
    BackendUnavailable,
    DeadlineExceeded,
    InternalError,
    QueueFull,
    QueueUnavailable,
    UnknownJob,
)
from service.live.task import LiveCaller, LiveTask
from service.queue.clock import Clock
from service.queue.job_store import JobStore
from service.queue.partitions import PerPartition
from service.queue.quota import QuotaLimits
from service.queue.result_bus import ResultBus
from service.telemetry import metrics, traces

log = structlog.get_logger()


class WindowScorer:
    """Queues the windows of this process' live streams, and waits for their answers."""

    def __init__(
        self,
        admission: Admission,
        auth: Authenticator,
        stores: PerPartition[JobStore],
        buses: PerPartition[ResultBus],
        clocks: PerPartition[Clock],
        max_delay_s: float,
    ) -> None:
        """A window that has no answer after `max_delay_s` gets none."""
        self._admission = admission
        self._auth = auth
        self._stores = stores
        self._buses = buses
        self._clocks = clocks
        self._max_delay_s = max_delay_s
        self._owed_s: defaultdict[str, float] = defaultdict(float)

    async def score(self, task: LiveTask, window: SampledWindow, clips: bytes) -> WindowResult:
        """The answer for a window with these clips.

        Raises what quotas and admission raise, DeadlineExceeded, and the error of the job.
        """
        caller, options = task.caller, task.request.scoring(task.version)
        await self._charge(caller, task.step_s)
        async with self._admission.admit_decoded(options, self._max_delay_s, caller.identity) as admitted:
            if admitted.spec.clip != task.clip:
                detail = f"Model {task.model} is served in another shape than when this stream began. Begin another."
                raise BackendUnavailable(detail, retry_after_s=RETRY_AFTER_S)
            job_id = admitted.job_id
            bus, store = self._buses.of(job_id), self._stores.of(job_id)
            unended = bus.completion(job_id)
            record = self._record(task, window, admitted, await self._clocks.of(job_id).time())
            with metrics.stage("enqueue"):
                await store.accept(
                    record, clips=memoryview(clips), reservation=admitted.reservation, reply_to=bus.reply_to
                )
            self._admission.hand_over(job_id)
        try:
            outcome = await bus.wait(job_id, self._max_delay_s, unended)
        finally:
            await self._erase(record, store)
        if outcome is None:
            raise DeadlineExceeded(f"The window had no answer after {self._max_delay_s:g} s.", limit=self._max_delay_s)
        if outcome.result is None:
            raise outcome.error or InternalError(f"A window ended as {outcome.state} without a cause.")
        return outcome.result.windows[0]

    async def _charge(self, caller: LiveCaller, seconds: float) -> None:
        """Count the seconds of a stream; a quota counts whole ones."""
        principal = Principal(
            caller.owner, caller.tenant, caller.identity, QuotaLimits(caller.requests, caller.video_seconds)
        )
        owed_s = self._owed_s[caller.identity] + seconds
        whole = math.floor(owed_s)
        self._owed_s[caller.identity] = owed_s - whole
        if whole:
            await self._auth.charge(principal, whole)

    def _record(self, task: LiveTask, window: SampledWindow, admitted: Admitted, now: float) -> JobRecord:
        video = VideoInfo(
            duration_s=window.end_s,
            width=task.clip.width,
            height=task.clip.height,
            fps=None,
            container="live",
            codec="live",
            rotation=0,
            frames_decoded=len(window.times_s),
        )
        decoded = DecodedVideo(
            video=video,
            coverage=1.0,
            windows=(window,),
            crops=task.request.crops,
            clip_shape=task.clip.clip_shape,
            decode_ms=0.0,
        )
        return JobRecord(
            id=admitted.job_id,
            request=task.request.scoring(task.version),
            spec=admitted.job_model,
            decoded=decoded,
            created_at=now,
            enqueued_at=now,
            deadline_at=now + self._max_delay_s,
            upload_ms=0.0,
            request_id=admitted.job_id,
            job_class=admitted.reservation.job_class,
            trace=traces.traceparent(),
            video_sha256="",
            owner=task.caller.tenant,
        )

    async def _erase(self, record: JobRecord, store: JobStore) -> None:
        """Leave nothing of the job: a stream has one every second, for hours."""
        # What Redis does not do now its deadline and its expiry do later.
        with contextlib.suppress(QueueUnavailable, UnknownJob):
            if await store.cancel(record.id):
                # A worker may have it still, and has to find that it has ended.
                metrics.JOBS.labels(JobState.CANCELLED).inc()
            else:
                await store.forget(record)


class StreamPlaces:
    """How many live streams a process, and each caller, may have at a time."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def take_place(self, caller: str) -> None:
        """Take one more. Raises QueueFull."""
        refused = self._shared.take(caller)
        if refused is not None:
            whose = " of this caller" if refused.own else ""
            raise QueueFull(
                f"This process already decodes {refused.actual} live streams{whose}; its limit is {refused.limit}."
                " End one, or try again later.",
                limit=refused.limit,
                actual=refused.actual,
                retry_after_s=RETRY_AFTER_S,
            )

    def give_back(self, caller: str) -> None:
        """Give one back."""
        self._shared.give_back(caller)
