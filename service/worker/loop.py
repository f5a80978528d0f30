"""The worker: takes what waits up to the batch size, scores it, writes it back, and announces what it serves."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

import structlog

from service.contracts import ModelSpec
from service.errors import BackendFailed, BackendUnavailable, QueueUnavailable, VidtrError
from service.inference.backend import Backend
from service.queue.jobs import JobStore
from service.queue.models import ModelDirectory
from service.queue.stream import ClipEntry, ClipStream
from service.telemetry import metrics
from service.worker.batch import LoadedClip, batches, expiry, load, score
from service.worker.completion import Completion
from service.worker.config import WorkerConfig

log = structlog.get_logger()

BACKOFF_FIRST_S = 0.2
BACKOFF_LAST_S = 5.0


class Worker:
    """One worker process: owns the backend, serves every model the backend has."""

    def __init__(
        self, config: WorkerConfig, backend: Backend, store: JobStore, stream: ClipStream, directory: ModelDirectory
    ) -> None:
        self._config = config
        self._backend = backend
        self._stream = stream
        self._directory = directory
        self._completion = Completion(store, stream)
        self._specs: list[ModelSpec] = []
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Finish the batch in hand, leave the rest in the queue, then return from `run`."""
        self._stopping.set()

    async def run(self) -> None:
        """Serve until `stop`. Survives an unreachable Redis or backend; the caller starts and closes the backend."""
        heartbeat = asyncio.create_task(self._heartbeat(), name="heartbeat")
        reclaim = asyncio.create_task(self._reclaim(), name="reclaim")
        try:
            while not self._stopping.is_set():
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
            self._stopping.set()
            await asyncio.gather(heartbeat, reclaim, return_exceptions=True)
            with contextlib.suppress(QueueUnavailable):
                await self._stream.leave(self._names)

    @property
    def _names(self) -> list[str]:
        return sorted({spec.name for spec in self._specs})

    async def _step(self) -> None:
        if not self._specs:
            await self._pause(0.1)
            return
        most = max(spec.max_batch_size for spec in self._specs)
        entries = await self._stream.read(self._names, most, self._config.worker_block_ms)
        if entries:
            await self._process(entries)

    async def _process(self, entries: Sequence[ClipEntry]) -> None:
        sizes = {(spec.name, spec.version): spec.max_batch_size for spec in self._specs}
        unfinished = set(entries)
        try:
            for batch in batches(entries, sizes):
                clips, rejected = await load(self._stream, batch, self._config.worker_max_deliveries)
                for reject in rejected:
                    await self._completion.failed([reject.entry], reject.error)
                if clips:
                    await self._score(clips)
                unfinished.difference_update(batch)
        except BackendUnavailable:
            log.warning("clips_given_back", clips=len(unfinished))
        finally:
            if unfinished:
                with contextlib.suppress(QueueUnavailable):
                    await self._stream.give_back(list(unfinished))

    async def _score(self, clips: Sequence[LoadedClip]) -> None:
        """Score and write back, waiting out an absent backend until the clips' deadlines.

        Raises BackendUnavailable only when the worker is stopping.
        """
        wait_s = BACKOFF_FIRST_S
        while clips:
            try:
                scores = await score(self._backend, clips)
            except BackendUnavailable as error:
                metrics.BACKEND_ERRORS.labels("unavailable").inc()
                log.warning("backend_unavailable", detail=error.detail)
                await self._pause(wait_s)
                if self._stopping.is_set():
                    raise
                wait_s = min(2 * wait_s, BACKOFF_LAST_S)
                clips = await self._drop_expired(clips)
            except BackendFailed as error:
                metrics.BACKEND_ERRORS.labels("failed").inc()
                if len(clips) == 1:
                    await self._completion.failed([clips[0].entry], error)
                    return
                # One clip may have spoilt the batch for the others: alone, only the guilty one fails.
                for clip in clips:
                    await self._score([clip])
                return
            else:
                with metrics.stage("completion"):
                    await self._completion.scored(scores)
                return

    async def _drop_expired(self, clips: Sequence[LoadedClip]) -> list[LoadedClip]:
        now = time.time()
        for clip in clips:
            if error := expiry(clip.entry, now):
                await self._completion.failed([clip.entry], error)
        return [clip for clip in clips if clip.entry.deadline_at > now]

    async def _heartbeat(self) -> None:
        while not self._stopping.is_set():
            try:
                specs = await self._backend.models()
                if specs != self._specs:
                    await self._stream.join(sorted({spec.name for spec in specs}))
                    log.info("serving", models=[f"{spec.name}:{spec.version}" for spec in specs])
                    self._specs = specs
                await self._directory.announce(specs, self._config.announcement_ttl_s)
            except VidtrError as error:
                log.warning("heartbeat_failed", code=error.code, detail=error.detail)
            await self._pause(self._config.worker_heartbeat_s)

    async def _reclaim(self) -> None:
        while not self._stopping.is_set():
            await self._pause(min(self._config.worker_lease_s / 4, 5.0))
            try:
                for name in [] if self._stopping.is_set() else self._names:
                    most = max(spec.max_batch_size for spec in self._specs if spec.name == name)
                    entries = await self._stream.reclaim(name, self._config.worker_lease_s, most)
                    if entries:
                        metrics.LEASES_LOST.inc(len(entries))
                        log.info("clips_reclaimed", model=name, clips=len(entries))
                        await self._process(entries)
            except Exception:
                log.exception("reclaim_failed")

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
