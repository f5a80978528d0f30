"""Decode processes that can be killed: uploads go in, clips come out, and a crash hurts the one upload only."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from service.contracts import DecodedVideo, JobRequest, ModelSpec
from service.errors import DecodeTimeout, Draining, InternalError, VidtrError, error_from_dict
from service.video.cell import Cell, CellGone
from service.video.cells import Cells
from service.video.config import DecodeConfig
from service.video.crash import crash
from service.video.fork_server import Exit, ForkServer, ServerGone
from service.video.forking import prepare_decoder, task_of

# What a report may take: so much, and so much more for each frame it names.
_REPORT_BYTES, _FRAME_BYTES = 1 << 20, 64


class _Report(BaseModel):
    """What a cell says about an upload: one of the two."""

    decoded: DecodedVideo | None = None
    error: dict[str, Any] | None = None


class DecodePool:
    """Decodes as many uploads at a time as there are to be decode processes, each in a cell, replaced when it ends.

    Start it in the thread that runs the event loop: the processes die with the thread that started them.

    Attributes:
        sandbox: what shuts the decodes in on this machine, beyond their limits; known once started.
    """

    def __init__(self, config: DecodeConfig) -> None:
        self._config = config
        self._processes = config.decode_workers or os.cpu_count() or 1
        self._free = asyncio.Semaphore(self._processes)
        self._starting = asyncio.Lock()
        self._cells: Cells | None = None
        self._closed = False
        self.sandbox: tuple[str, ...] = ()

    async def start(self) -> None:
        """Start all processes and wait until each is ready, so that the first upload is not slow.

        Raises:
            InternalError: the processes do not come up.
        """
        try:
            cells = await self._running()
            self.sandbox = (f"process per {self._config.decode_isolation}", *await cells.fill())
        except (ServerGone, CellGone) as error:
            raise InternalError("The decode processes do not start.") from error

    async def decode(
        self, path: Path, out: Path, spec: ModelSpec, request: JobRequest, caller: str = ""
    ) -> DecodedVideo:
        """Decode the upload at `path` and write its clips to `out`; see `service.video.clips.decode_file`.

        No process sees the uploads of two callers. Waits for a free process. Cancelling kills the decode; when the
        cancellation comes out, nothing writes any more.

        Raises:
            DecodeTimeout: it took longer than `decode_timeout_s`, waiting not counted.
            DecodeCpuLimit, DecodeMemoryLimit, DecoderCrash: it used up what it may use, or its process ended.
            Draining: the pool is closing.
            VidtrError: whatever `decode_file` found.
        """
        task = task_of(spec, request)
        async with self._free:
            try:
                try:
                    return await self._decode(path, out, spec, task, caller)
                except ServerGone:
                    # Whatever ended it, the upload is innocent: again, on a new one.
                    return await self._decode(path, out, spec, task, caller)
            except ServerGone as error:
                if self._closed:
                    raise Draining("The decode pool closed before the upload was decoded.") from None
                raise InternalError("The decode processes do not start.") from error

    async def close(self) -> None:
        """Kill all decodes and processes. Decodes that are awaited end with Draining."""
        self._closed = True
        async with self._starting:
            if self._cells is not None:
                await self._cells.close()

    async def _running(self) -> Cells:
        """The cells of a fork server that is there."""
        async with self._starting:
            if self._closed:
                raise Draining("The decode pool is closed.")
            if self._cells is not None and self._cells.gone:
                await self._cells.close()
                self._cells = None
            if self._cells is None:
                server = ForkServer(partial(prepare_decoder, self._config))
                uploads = 1 if self._config.decode_isolation == "upload" else self._config.decode_recycle_after
                self._cells = Cells(server, self._processes, uploads)
            return self._cells

    async def _decode(self, path: Path, out: Path, spec: ModelSpec, task: bytes, caller: str) -> DecodedVideo:
        cells = await self._running()
        with _opened(path, os.O_RDONLY) as upload, _opened(out, os.O_RDWR | os.O_CREAT | os.O_TRUNC) as clips:
            cell = await self._begun(cells, upload, clips, spec, task, caller)
        limit = self._config.decode_timeout_s
        try:
            async with asyncio.timeout(limit):
                report = await cell.report(_REPORT_BYTES + self._config.max_clips_per_job * spec.frames * _FRAME_BYTES)
        except TimeoutError as error:
            await cells.end(cell)
            raise DecodeTimeout(f"Decoding took longer than {limit:g} s.", limit=limit) from error
        except CellGone:
            raise self._crash(cell, await cells.end(cell)) from None
        except asyncio.CancelledError:
            await _ended(cells, cell)
            raise
        try:
            decoded = _read(report)
        except BaseException:
            cells.discard(cell)
            raise
        cells.give_back(cell, caller)
        return decoded

    def _crash(self, cell: Cell, ended: Exit) -> VidtrError:
        return crash(ended.code, self._config, None if cell.used_s is None else ended.cpu_s - cell.used_s)

    async def _begun(self, cells: Cells, upload: int, clips: int, spec: ModelSpec, task: bytes, caller: str) -> Cell:
        """A cell that has the upload. Raises ServerGone, and what cells end of where none lives to take it."""
        # One that died while it was idle did nothing to this upload, and so may all have that there are.
        for left in range(2 * self._processes, -1, -1):
            cell = await cells.take(caller)
            try:
                await cell.begin(
                    upload,
                    clips,
                    task,
                    cpu_s=self._config.decode_cpu_s,
                    file_bytes=self._config.max_clips_per_job * spec.clip_bytes,
                )
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


async def _ended(cells: Cells, cell: Cell) -> None:
    """Return once the cell is no more, for one whose own task is cancelled."""
    with contextlib.suppress(ServerGone):
        await asyncio.shield(cells.end(cell))


def _read(report: bytes) -> DecodedVideo:
    """What a cell found. Raises what it says, or InternalError where that cannot be read."""
    unreadable = InternalError("The decode process reported something unreadable.")
    try:
        read = _Report.model_validate_json(report)
        error = None if read.error is None else error_from_dict(read.error)
    except (ValueError, KeyError, TypeError) as problem:
        raise unreadable from problem
    if error is not None:
        raise error
    if read.decoded is None:
        raise unreadable
    return read.decoded


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    # Only a regular file can be decoded; a pipe must not hold up the whole process before that is found out.
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
