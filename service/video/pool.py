"""Decode processes that can be killed: uploads go in, clips come out, and a crash hurts the one upload only."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

from service.contracts import ClipSpec, DecodedVideo, JobClass, JobRequest
from service.cores import usable_cores
from service.errors import DecoderCrash, Draining, InternalError, SandboxMissing, VidtrError
from service.video.config import DecodeConfig
from service.video.crashes import Crashes
from service.video.decode_report import Asked, clean, read_report
from service.video.decode_scheduler import DecodeScheduler
from service.video.exit_errors import exit_error
from service.video.forkserver_client import Exit, ForkServer, ServerGone
from service.video.forkserver_main import prepare_decoder, task_of
from service.video.layouts import Layouts
from service.video.progress import Progress
from service.video.sandbox import lacking
from service.video.sandbox_pool import SandboxPool
from service.video.sandbox_worker import SandboxWorker, SandboxWorkerGone
from service.video.supply import Supply
from service.video.upload_exchange import Upload, opened, reported

log = logging.getLogger(__name__)


class DecodePool:
    """Decodes up to `processes` uploads at a time, each in a sandbox worker that is replaced when it ends.

    Start it in the thread that runs the event loop: the processes die with the thread that started them.

    Attributes:
        processes: how many uploads are decoded at a time.
        scheduler: which upload is next, and how long the others wait.
        sandbox: what shuts the decodes in on this machine, beyond their limits; known once started.
    """

    def __init__(self, config: DecodeConfig, told: Callable[[tuple[str, ...]], None] = lambda active: None) -> None:
        """`told` is called with `sandbox` whenever it changes."""
        self._config = config
        self._told = told
        self.processes = config.decode_workers or usable_cores()
        self.scheduler = DecodeScheduler(self.processes)
        self._layouts = Layouts(self._pool, config.decode_crashes_per_layout)
        self._crashes = Crashes(config.decode_crashes_per_caller, config.decode_crash_window_s)
        self._closed = False
        self.sandbox: tuple[str, ...] = ()

    async def start(self) -> None:
        """Start all processes and wait until each is ready, so that the first upload is not slow.

        Raises:
            InternalError: the processes do not come up.
            SandboxMissing: they are not shut in as `decode_sandbox` requires.
        """
        try:
            sandbox_layers = await (await self._layouts.pool()).fill()
        except (ServerGone, SandboxWorkerGone) as error:
            raise InternalError("The decode processes do not start.") from error
        self._check(sandbox_layers)

    @property
    def unsafe(self) -> str | None:
        """What the sandbox lacks of what `decode_sandbox` requires; None while it has all of it."""
        return lacking(self.sandbox) if self._config.decode_sandbox == "require" else None

    def admit(self, caller: str) -> None:
        """Raise TooManyCrashes for a caller whose uploads have crashed too often lately."""
        self._crashes.check(caller)

    @contextlib.asynccontextmanager
    async def slot(self, job_class: JobClass, caller: str = "") -> AsyncIterator[DecodeSlot]:
        """Wait for a free process, and hold it inside. No process sees the uploads of two callers."""
        async with self.scheduler.slot(job_class, caller):
            yield DecodeSlot(self, caller)

    async def decode(
        self, path: Path, out: Path, spec: ClipSpec, request: JobRequest, caller: str = "", job: str = ""
    ) -> DecodedVideo:
        """`DecodeSlot.decode` as soon as a process is free."""
        async with self.slot(JobClass.INTERACTIVE, caller) as slot:
            return await slot.decode(path, out, spec, request, job=job)

    @contextlib.asynccontextmanager
    async def apart(self, caller: str) -> AsyncIterator[tuple[SandboxWorker, DecodeConfig]]:
        """A process for one stream of this caller, beside those for uploads; it is ended at the end.

        A SandboxWorkerGone that is raised inside becomes the error that says how it ended, and counts as a crash.
        Raises TooManyCrashes, SandboxMissing, InternalError.
        """
        self.admit(caller)
        try:
            pool = await self._layouts.pool(suspect=self._crashes.suspects(caller))
            worker = await pool.take_apart()
        except ServerGone as error:
            raise InternalError("The decode processes do not start.") from error
        try:
            self._check(await pool.sandbox_layers(worker))
            yield worker, self._config
        except SandboxWorkerGone:
            raise await self._crashed_apart(pool, worker, caller) from None
        except BaseException as error:
            if isinstance(error, DecoderCrash):
                self._crashes.count(caller)
            with contextlib.suppress(ServerGone):
                await asyncio.shield(pool.end_apart(worker))
            raise
        else:
            with contextlib.suppress(ServerGone):
                await pool.end_apart(worker)

    async def _crashed_apart(self, pool: SandboxPool, worker: SandboxWorker, caller: str) -> VidtrError:
        _listen(worker, "")
        try:
            crash = self._crash(worker, await pool.end_apart(worker))
        except ServerGone:
            return InternalError("The decode processes have ended, and the stream's with them. Begin another session.")
        if isinstance(crash, DecoderCrash):
            self._crashes.count(caller)
            self._layouts.crashed(pool)
        return crash

    async def _decode_upload(self, upload: Upload) -> DecodedVideo:
        self.admit(upload.caller)
        try:
            try:
                return await self._decode(upload)
            except ServerGone:
                # Whatever ended it, the upload is innocent: again, on a new one.
                return await self._decode(upload)
        except ServerGone as error:
            if self._closed:
                raise Draining("The decode pool closed before the upload was decoded.") from None
            raise InternalError("The decode processes do not start.") from error

    def _asked(self, spec: ClipSpec, request: JobRequest, most_clips: int | None) -> Asked:
        limit = self._config.max_clips_per_job
        return Asked(spec, request, self._config, limit if most_clips is None else min(most_clips, limit))

    async def close(self) -> None:
        """Kill all decodes and processes. Decodes that are awaited end with Draining."""
        self._closed = True
        await self._layouts.close()

    def _pool(self) -> SandboxPool:
        """Those of a new fork server."""
        server = ForkServer(partial(prepare_decoder, self._config))
        uploads = 1 if self._config.decode_isolation == "upload" else self._config.decode_recycle_after
        return SandboxPool(server, self.processes, uploads)

    def _check(self, sandbox_layers: list[str]) -> None:
        active = (f"process per {self._config.decode_isolation}", *sandbox_layers)
        if active != self.sandbox:
            self.sandbox = active
            self._told(active)
        if missing := self.unsafe:
            raise SandboxMissing(
                f"Decode processes are shut in by {', '.join(sandbox_layers) or 'nothing'} on this machine; "
                f"decode_sandbox=require also needs {missing}."
            )

    async def _decode(self, upload: Upload) -> DecodedVideo:
        pool = await self._layouts.pool(suspect=self._crashes.suspects(upload.caller))
        with (
            opened(upload.path, os.O_RDONLY) as video,
            opened(upload.out, os.O_RDWR | os.O_CREAT | os.O_TRUNC) as clips,
        ):
            worker = await self._begun(pool, video, clips, upload)
        try:
            decoded = await self._decoded(pool, worker, upload)
        except DecoderCrash:
            self._crashes.count(upload.caller)
            self._layouts.crashed(pool)
            raise
        pool.give_back(worker, upload.caller)
        return decoded

    async def _decoded(self, pool: SandboxPool, worker: SandboxWorker, upload: Upload) -> DecodedVideo:
        """What a sandbox worker finds; one that finds nothing is ended."""
        try:
            report = await reported(worker, upload, self._config.decode_timeout_s)
        except VidtrError:
            await pool.end(worker)
            raise
        except SandboxWorkerGone:
            _listen(worker, upload.job)
            raise self._crash(worker, await pool.end(worker)) from None
        except asyncio.CancelledError:
            await _ended(pool, worker)
            raise
        _listen(worker, upload.job)
        try:
            return read_report(report, upload.asked, os.stat(upload.out).st_size)
        except BaseException:
            pool.discard(worker)
            raise

    def _crash(self, worker: SandboxWorker, ended: Exit) -> VidtrError:
        return exit_error(ended.code, self._config, None if worker.used_s is None else ended.cpu_s - worker.used_s)

    async def _begun(self, pool: SandboxPool, video: int, clips: int, upload: Upload) -> SandboxWorker:
        """A sandbox worker that has the upload. Raises ServerGone, and the last worker's error where none takes it."""
        asked, caller = upload.asked, upload.caller
        task = task_of(asked.spec, asked.request, told=upload.progress is not None)
        supplied = (upload.supply and upload.supply.size) or 0
        # One that died while it was idle did nothing to this upload, and so may all have that there are.
        for left in range(2 * self.processes, -1, -1):
            worker = await pool.take(caller)
            try:
                self._check(await pool.sandbox_layers(worker))
                await worker.begin(
                    video,
                    clips,
                    task,
                    cpu_s=self._config.decode_cpu_s,
                    file_bytes=asked.most_bytes,
                    supplied=supplied,
                )
            except SandboxMissing:
                pool.discard(worker)
                raise
            except SandboxWorkerGone:
                ended = await pool.end(worker)
                if not left:
                    raise self._crash(worker, ended) from None
            except asyncio.CancelledError:
                await _ended(pool, worker)
                raise
            else:
                break
        return worker


class DecodeSlot:
    """A free decode process of a pool, for one upload of one caller."""

    def __init__(self, pool: DecodePool, caller: str) -> None:
        self._pool = pool
        self._caller = caller

    async def decode(
        self,
        path: Path,
        out: Path,
        spec: ClipSpec,
        request: JobRequest,
        *,
        most_clips: int | None = None,
        job: str = "",
        supply: Supply | None = None,
        progress: Progress | None = None,
    ) -> DecodedVideo:
        """Decode the upload at `path` and write its clips to `out`; see `service.video.clips.decode_file`.

        Cancelling kills the decode; once the cancellation is raised here, nothing writes any more. `most_clips` is
        how many clips the queue has capacity for, `max_clips_per_job` at most; `job` names the upload in the log;
        `supply` fetches what is read of an upload that is not there; `progress` is called whenever further windows
        of many have their clips in `out`, and from the beginning again where the upload is decoded anew. Read `out`
        by `service.video.held_clips`: the process that decoded it may still have it open.

        Raises:
            DecodeTimeout: it took longer than `decode_timeout_s`, waiting not counted.
            DecodeCpuLimit, DecodeMemoryLimit: it used up what it may use.
            DecoderCrash: its process ended, or reported what cannot be.
            TooManyCrashes: so did those of too many uploads of this caller before.
            Draining: the pool is closing.
            VidtrError: whatever `decode_file` found.
        """
        asked = self._pool._asked(spec, request, most_clips)
        return await self._pool._decode_upload(Upload(path, out, asked, self._caller, job, supply, progress))


async def _ended(pool: SandboxPool, worker: SandboxWorker) -> None:
    """Return once the sandbox worker has ended, for a caller whose own task is cancelled."""
    with contextlib.suppress(ServerGone):
        await asyncio.shield(pool.end(worker))


def _listen(worker: SandboxWorker, job: str) -> None:
    """Log, in one line, what a sandbox worker wrote to its standard streams: the decoder writes only on a crash."""
    if written := worker.written():
        log.warning(
            "decode process %d of job %s wrote: %s", worker.pid, job or "-", clean(written.decode(errors="replace"))
        )
