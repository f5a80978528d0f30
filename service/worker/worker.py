"""The worker: takes what waits up to the batch size, scores it, writes it back, and announces what it serves."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

import structlog

from service.contracts import JobClass, ModelSpec, WorkerStatus
from service.errors import BackendFailed, BackendUnavailable, QueueUnavailable, VidtrError
from service.inference.backend import Backend
from service.queue.clip_entries import ClipEntry, Delivery
from service.queue.clip_routes import model_of, route_of, routes
from service.queue.clip_stream import ClipStream
from service.queue.model_directory import ModelDirectory
from service.telemetry import metrics, traces
from service.worker.batch import LoadedClip, batches, expiry, load, observe, score
from service.worker.batch_delay import BatchDelay
from service.worker.breaker import Breaker
from service.worker.completion import Completion
from service.worker.config import WorkerConfig
from service.worker.drain_rate import DrainRate
from service.worker.leases import Leases
from service.worker.scheduler import ClassScheduler
from service.worker.watchdog import Watchdog

log = structlog.get_logger()

BACKOFF_FIRST_S = 0.2
BACKOFF_LAST_S = 5.0
BREAKER_CHECK_S = 0.5
UPKEEP_S = 1.0


class Worker:
    """One worker process: owns the backend, serves every model the backend has, one batch at a time."""

    def __init__(
        self,
        config: WorkerConfig,
        backend: Backend,
        stream: ClipStream,
        directory: ModelDirectory,
        completion: Completion,
        watchdog: Watchdog,
    ) -> None:
        self._config = config
        self._backend = backend
        self._stream = stream
        self._directory = directory
        self._clock = directory.clock
        self._completion = completion
        self._watchdog = watchdog
        self._leases = Leases(stream, config.worker_lease_s)
        self._breaker = Breaker(config.breaker_failures, config.breaker_open_s)
        self._scheduler = ClassScheduler(config.worker_interactive_weight, config.worker_bulk_batch_ms / 1000)
        self._batch_delay = BatchDelay(config.worker_batch_delay_ms / 1000)
        self._rate = DrainRate()
        self._specs: list[ModelSpec] = []
        # The routes that it reads, with the most clips of a batch.
        self._routes: dict[str, int] = {}
        self._reclaim_at = 0.0
        self._away = False
        self._stopping = asyncio.Event()
        self._news = asyncio.Event()

    def stop(self) -> None:
        """Finish the batch in hand, leave the rest in the queue, then return from `run`."""
        self._stopping.set()
        self._news.set()

    async def run(self) -> None:
        """Serve until `stop`. Survives an unreachable Redis or backend; the caller starts and closes the backend."""
        beside = [
            asyncio.create_task(self._heartbeat(), name="heartbeat"),
            asyncio.create_task(self._upkeep(), name="upkeep"),
        ]
        try:
            while not self._stopping.is_set():
                self._watchdog.touch("work")
                try:
                    await self._step()
                except QueueUnavailable as error:
                    log.warning("queue_unavailable", detail=error.detail)
                    await self._pause(BACKOFF_FIRST_S)
                except Exception:
                    # A fault in one batch must not take the worker down: its clips were given back, and after
                    # max_deliveries their jobs fail.
                    log.exception("batch_failed")
        finally:
            # Not cancelled: in Python 3.11 a cancellation that meets the end of a Redis command is lost with it.
            self.stop()
            await asyncio.gather(*beside, return_exceptions=True)
            with contextlib.suppress(QueueUnavailable):
                await self._directory.withdraw(self._stream.consumer)
                await self._stream.leave(self._routes)

    async def _step(self) -> None:
        await self._directory.set_clock()
        if not self._specs:
            await self._pause(0.1)
        elif self._breaker.state == "open":
            await self._pause(min(self._breaker.retry_in_s, BREAKER_CHECK_S))
        elif (taken := Delivery(await self._lost())).entries or (taken := await self._next()).entries:
            await self._process(taken)

    async def _lost(self) -> list[ClipEntry]:
        """Work that its worker gave back or left behind; looked for now and then, and at once where there was some."""
        if time.monotonic() < self._reclaim_at:
            return []
        for route, most in self._routes.items():
            served = [spec for spec in self._specs if spec.name == route]
            entries = await self._stream.reclaim(route, self._config.worker_lease_s, most, served, idle=True)
            if entries:
                if entries[0].deliveries > 1:
                    metrics.LEASES_LOST.inc(len(entries))
                log.info("clips_reclaimed", route=route, clips=len(entries), deliveries=entries[0].deliveries)
                return entries
        self._reclaim_at = time.monotonic() + self._config.reclaim_every_s
        return []

    async def _next(self) -> Delivery:
        if (left_s := self._batch_delay.left_s) > 0:
            await self._pause(left_s)
        order = [
            (job_class, route, self._most(job_class, route))
            for job_class, route in self._scheduler.order([*self._routes])
        ]
        taken = await self._stream.take(order)
        if not taken.entries:
            taken = Delivery(await self._first(min(most for *_, most in order)))
        for entry in taken.entries[:1]:
            self._scheduler.record(entry.job_class, entry.route)
            self._batch_delay.record(taken.entries, self._most(entry.job_class, entry.route))
        return taken

    async def _first(self, fewest: int) -> list[ClipEntry]:
        """What comes first: `fewest` entries, or a batch where a class may have more."""
        block_ms = min(self._config.worker_block_ms, int(self._config.reclaim_every_s * 1000))
        entries = await self._stream.read([*self._routes], fewest, max(1, block_ms))
        for entry in entries[:1]:
            if fewest <= len(entries) < (most := self._most(entry.job_class, entry.route)):
                entries += (await self._stream.take([(entry.job_class, entry.route, most - len(entries))])).entries
        return entries

    def _most(self, job_class: JobClass, route: str) -> int:
        return self._scheduler.most(job_class, self._routes.get(route, 1), self._rate.of(model_of(route)))

    async def _process(self, taken: Delivery) -> None:
        entries = taken.entries
        sizes = {(spec.name, spec.version): spec.max_batch_size for spec in self._specs}
        unfinished = set(entries)
        failure: str | None = None
        async with self._leases.hold(entries):
            try:
                for batch in batches(entries, sizes):
                    if self._stopping.is_set():
                        break
                    held = self._leases.kept(batch)
                    await self._batch(taken, held, full=len(held) == sizes.get((batch[0].model, batch[0].version)))
                    unfinished.difference_update(batch)
                    self._leases.done(batch)
            except BackendUnavailable as error:
                log.warning("clips_given_back", clips=len(unfinished), detail=error.detail)
            except QueueUnavailable:
                raise
            except Exception as error:
                failure = f"{type(error).__name__}: {error}"
                raise
            finally:
                if unfinished:
                    with contextlib.suppress(QueueUnavailable):
                        await self._completion.nack(unfinished, failure)
                        self._reclaim_at = 0.0

    async def _batch(self, taken: Delivery, entries: Sequence[ClipEntry], *, full: bool) -> None:
        started = time.monotonic()
        clips = await self._loaded(taken, entries)
        if clips:
            await self._score(clips)
            self._rate.observe(entries[0].model, len(clips), time.monotonic() - started, full=full)

    async def _loaded(self, taken: Delivery, entries: Sequence[ClipEntry]) -> list[LoadedClip]:
        if not entries:
            return []
        served = {(spec.name, spec.version, spec.weights_sha256) for spec in self._specs}
        found = await load(self._stream, taken, entries, self._config.worker_max_deliveries, served, self._clock.now())
        if found.foreign:
            self._leases.done(found.foreign)
            await self._completion.nack(found.foreign)
        for reject in found.rejected:
            await self._completion.failed(reject.entry, reject.error)
        await self._completion.dropped(found.over)
        await self._completion.scored_before(found.scored)
        return found.clips

    async def _score(self, clips: Sequence[LoadedClip]) -> None:
        """Score and write back. Raises BackendUnavailable once the breaker opens, or when the worker is stopping."""
        wait_s = BACKOFF_FIRST_S
        while clips:
            self._watchdog.touch("work")
            try:
                scored = await score(self._backend, clips, self._clock)
            except BackendUnavailable as error:
                metrics.BACKEND_ERRORS.labels("unavailable").inc()
                log.warning("backend_unavailable", detail=error.detail)
                self._unavailable()
                if self._stopping.is_set() or self._breaker.state == "open":
                    raise
                await self._pause(wait_s)
                wait_s = min(2 * wait_s, BACKOFF_LAST_S)
                clips = await self._drop_expired(clips)
            except BackendFailed as error:
                metrics.BACKEND_ERRORS.labels("failed").inc()
                self._breaker.succeeded()
                if len(clips) == 1:
                    await self._completion.failed(clips[0].entry, error)
                    return
                # One clip may have spoilt the batch for the others: alone, only the guilty one fails.
                for clip in clips:
                    await self._score([clip])
                return
            else:
                self._breaker.succeeded()
                started = self._clock.now()
                try:
                    with metrics.stage("completion"):
                        whole = {clip.entry.job_id: clip.record for clip in clips if clip.record is not None}
                        await self._completion.scored(scored.scores, whole)
                finally:
                    observe(scored)
                for trace in {clip.entry.trace for clip in clips}:
                    traces.record("completion", started, self._clock.now(), parent=trace)
                return

    def _unavailable(self) -> None:
        self._breaker.failed()
        if self._breaker.state == "open":
            log.warning("breaker_open", retry_in_s=round(self._breaker.retry_in_s, 3))
            self._news.set()

    async def _drop_expired(self, clips: Sequence[LoadedClip]) -> list[LoadedClip]:
        now = self._clock.now()
        for clip in clips:
            if error := expiry(clip.entry, now):
                await self._completion.failed(clip.entry, error)
        return [clip for clip in clips if clip.entry.deadline_at > now]

    async def _heartbeat(self) -> None:
        while not self._stopping.is_set():
            self._watchdog.touch("heartbeat")
            try:
                await self._look_at_backend()
                await self._directory.announce(self._specs, self._status(), self._config.announcement_ttl_s)
            except VidtrError as error:
                log.warning("heartbeat_failed", code=error.code, detail=error.detail)
            closed = self._breaker.state == "closed"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(self._config.worker_heartbeat_s, 60.0 if closed else BREAKER_CHECK_S)):
                    await self._news.wait()
            self._news.clear()

    async def _look_at_backend(self) -> None:
        try:
            specs = await self._backend.models()
        except BackendUnavailable as error:
            log.warning("backend_unavailable", detail=error.detail)
            self._breaker.failed()
            self._away = True
            return
        if self._away:
            self._away = False
            self._breaker.probe()
        if specs != self._specs:
            read = {route: spec.max_batch_size for route, spec in routes(specs).items()}
            await self._stream.join(read)
            log.info("serving", models=[f"{spec.name}:{spec.version}" for spec in specs])
            self._specs, self._routes = specs, dict(sorted(read.items()))

    def _status(self) -> WorkerStatus:
        return WorkerStatus(
            worker=self._stream.consumer,
            models=tuple(f"{spec.name}:{spec.version}" for spec in self._specs),
            routes=tuple(map(route_of, self._specs)),
            breaker=self._breaker.state,
            retry_in_s=self._breaker.retry_in_s,
            clips_per_s=self._rate.by_model(),
        )

    async def _upkeep(self) -> None:
        while not self._stopping.is_set():
            self._watchdog.touch("upkeep")
            try:
                await self._completion.sweep()
                await self._directory.clear()
                await self._stream.tidy(self._routes, 10 * self._config.worker_lease_s)
            except QueueUnavailable as error:
                log.warning("queue_unavailable", detail=error.detail)
            except Exception:
                log.exception("upkeep_failed")
            await self._pause(UPKEEP_S)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
