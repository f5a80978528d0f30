"""Decode processes that can be killed: uploads go in, clips come out, and a crash hurts the one upload only."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

from service.contracts import DecodedVideo, JobClass, JobRequest, ModelSpec
from service.cores import usable_cores
from service.errors import DecoderCrash, DecodeTimeout, Draining, InternalError, SandboxMissing, VidtrError
from service.video.config import DecodeConfig
from service.video.crashes import Crashes
from service.video.decode_report import Asked, clean, read_report
from service.video.decode_scheduler import DecodeScheduler
from service.video.exit_errors import crash
from service.video.forkserver_client import Exit, ForkServer, ServerGone
from service.video.forkserver_main import prepare_decoder, task_of
from service.video.layouts import Layouts
from service.video.sandbox import lacking
from service.video.sandbox_pool import Cells
from service.video.sandbox_worker import Cell, CellGone

log = logging.getLogger(__name__)


class DecodePool:
    """Decodes as many uploads at a time as there are to be decode processes, each in a cell, replaced when it ends.

    Start it in the thread that runs the event loop: the processes die with the thread that started them.

    Attributes:
        processes: how many uploads are decoded at a time.
        scheduler: which upload is next, and how long the others wait.
        sandbox: what shuts the decodes in on this machine, beyond their limits; known once started.
    """

    def __init__(self, config: DecodeConfig, told: Callable[[tuple[str, ...]], None] = lambda active: None) -> None:
        """`told` hears of `sandbox` whenever it changes."""
        self._config = config
        self._told = told
        self.processes = config.decode_workers or usable_cores()
        self.scheduler = DecodeScheduler(self.processes)
        self._layouts = Layouts(self._cells, config.decode_crashes_per_layout)
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
            layers = await (await self._layouts.cells()).fill()
        except (ServerGone, CellGone) as error:
            raise InternalError("The decode processes do not start.") from error
        self._check(layers)

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
        self, path: Path, out: Path, spec: ModelSpec, request: JobRequest, caller: str = "", job: str = ""
    ) -> DecodedVideo:
        """`DecodeSlot.decode` as soon as a process is free."""
        async with self.slot(JobClass.INTERACTIVE, caller) as slot:
            return await slot.decode(path, out, spec, request, job=job)

    async def _decode_upload(
        self,
        path: Path,
        out: Path,
        spec: ModelSpec,
        request: JobRequest,
        caller: str,
        most_clips: int | None,
        job: str,
    ) -> DecodedVideo:
        limit = self._config.max_clips_per_job
        asked = Asked(spec, request, self._config, limit if most_clips is None else min(most_clips, limit))
        self.admit(caller)
        try:
            try:
                return await self._decode(path, out, asked, caller, job)
            except ServerGone:
                # Whatever ended it, the upload is innocent: again, on a new one.
                return await self._decode(path, out, asked, caller, job)
        except ServerGone as error:
            if self._closed:
                raise Draining("The decode pool closed before the upload was decoded.") from None
            raise InternalError("The decode processes do not start.") from error

    async def close(self) -> None:
        """Kill all decodes and processes. Decodes that are awaited end with Draining."""
        self._closed = True
        await self._layouts.close()

    def _cells(self) -> Cells:
        """Those of a new fork server."""
        server = ForkServer(partial(prepare_decoder, self._config))
        uploads = 1 if self._config.decode_isolation == "upload" else self._config.decode_recycle_after
        return Cells(server, self.processes, uploads)

    def _check(self, layers: list[str]) -> None:
        active = (f"process per {self._config.decode_isolation}", *layers)
        if active != self.sandbox:
            self.sandbox = active
            self._told(active)
        if missing := self.unsafe:
            raise SandboxMissing(
                f"Decode processes are shut in by {', '.join(layers) or 'nothing'} on this machine; "
                f"decode_sandbox=require also needs {missing}."
            )

    async def _decode(self, path: Path, out: Path, asked: Asked, caller: str, job: str) -> DecodedVideo:
        cells = await self._layouts.cells(suspect=self._crashes.suspects(caller))
        with _opened(path, os.O_RDONLY) as upload, _opened(out, os.O_RDWR | os.O_CREAT | os.O_TRUNC) as clips:
            cell = await self._begun(cells, upload, clips, asked, caller)
        try:
            decoded = await self._decoded(cells, cell, asked, out, job)
        except DecoderCrash:
            self._crashes.count(caller)
            self._layouts.crashed(cells)
            raise
        cells.give_back(cell, caller)
        return decoded

    async def _decoded(self, cells: Cells, cell: Cell, asked: Asked, out: Path, job: str) -> DecodedVideo:
        """What a cell finds; one that finds nothing is ended."""
        limit = self._config.decode_timeout_s
        try:
            async with asyncio.timeout(limit):
                report = await cell.report(asked.report_bytes)
        except TimeoutError as error:
            await cells.end(cell)
            raise DecodeTimeout(f"Decoding took longer than {limit:g} s.", limit=limit) from error
        except CellGone:
            _listen(cell, job)
            raise self._crash(cell, await cells.end(cell)) from None
        except asyncio.CancelledError:
            await _ended(cells, cell)
            raise
        _listen(cell, job)
        try:
            return read_report(report, asked, os.stat(out).st_size)
        except BaseException:
            cells.discard(cell)
            raise

    def _crash(self, cell: Cell, ended: Exit) -> VidtrError:
        return crash(ended.code, self._config, None if cell.used_s is None else ended.cpu_s - cell.used_s)

    async def _begun(self, cells: Cells, upload: int, clips: int, asked: Asked, caller: str) -> Cell:
        """A cell that has the upload. Raises ServerGone, and what cells end of where none lives to take it."""
        task = task_of(asked.spec, asked.request)
        # One that died while it was idle did nothing to this upload, and so may all have that there are.
        for left in range(2 * self.processes, -1, -1):
            cell = await cells.take(caller)
            try:
                self._check(await cells.layers(cell))
                await cell.begin(upload, clips, task, cpu_s=self._config.decode_cpu_s, file_bytes=asked.most_bytes)
            except SandboxMissing:
                cells.discard(cell)
                raise
            except CellGone:
                ended = await cells.end(cell)
                if not left:
                    raise self._crash(cell, ended) from None
            except asyncio.CancelledError:
                await _ended(cells, cell)
                raise
            else:
                break
        return cell


class DecodeSlot:
    """A free decode process of a pool, for one upload of one caller."""

    def __init__(self, pool: DecodePool, caller: str) -> None:
        self._pool = pool
        self._caller = caller

    async def decode(
        self,
        path: Path,
        out: Path,
        spec: ModelSpec,
        request: JobRequest,
        *,
        most_clips: int | None = None,
        job: str = "",
    ) -> DecodedVideo:
        """Decode the upload at `path` and write its clips to `out`; see `service.video.clips.decode_file`.

        Cancelling kills the decode; once the cancellation is raised here, nothing writes any more. `most_clips` is
        how many clips the queue has capacity for, `max_clips_per_job` at most; `job` names the upload in the log. Read
        `out` by `service.video.held_clips`: the process that decoded it may still have it open.

        Raises:
            DecodeTimeout: it took longer than `decode_timeout_s`, waiting not counted.
            DecodeCpuLimit, DecodeMemoryLimit: it used up what it may use.
            DecoderCrash: its process ended, or reported what cannot be.
            TooManyCrashes: so did those of too many uploads of this caller before.
            Draining: the pool is closing.
            VidtrError: whatever `decode_file` found.
        """
        return await self._pool._decode_upload(path, out, spec, request, self._caller, most_clips, job)


async def _ended(cells: Cells, cell: Cell) -> None:
    """Return once the cell is no more, for one whose own task is cancelled."""
    with contextlib.suppress(ServerGone):
        await asyncio.shield(cells.end(cell))


def _listen(cell: Cell, job: str) -> None:
    """Log, in one line, what a cell wrote to its standard streams: our decoder writes nothing but its last words."""
    if written := cell.written():
        log.warning(
            "decode process %d of job %s wrote: %s", cell.pid, job or "-", clean(written.decode(errors="replace"))
        )


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    # Only a regular file can be decoded; a pipe must not hold up the whole process before that is found out.
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
