"""Decode processes that can be killed: uploads go in, clips come out, and a crash hurts the one upload only."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from service.contracts import DecodedVideo, JobRequest, ModelSpec
from service.errors import DecodeTimeout, Draining, InternalError
from service.video import child
from service.video.config import DecodeConfig
from service.video.crash import crash

_POLL_S = 0.05
_WATCH_S = 0.5
_KILL_S = 10.0


class DecodePool:
    """A fixed number of decode processes, each replaced after a crash or a kill.

    Where they have no cells (see `service.video.child`), each is also replaced after `decode_recycle_after` uploads.

    Start it in the thread that runs the event loop: the processes die with the thread that started them.

    Attributes:
        sandbox: what shuts the decodes in on this machine, beyond their limits; known once started.
    """

    def __init__(self, config: DecodeConfig) -> None:
        self._config = config
        self._workers = config.decode_workers or os.cpu_count() or 1
        self._free = asyncio.Semaphore(self._workers)
        self._context = multiprocessing.get_context("spawn")
        self._ready = self._context.Semaphore(0)
        self._pool: ProcessPool | None = None
        self._reaping: set[asyncio.Task[None]] = set()
        self._running: set[ProcessFuture[DecodedVideo]] = set()
        self._closed = False
        self.sandbox: tuple[str, ...] = ()

    async def start(self) -> None:
        """Start all processes and wait until each is ready, so that the first upload is not slow.

        Raises:
            InternalError: the processes do not come up.
        """
        pool = self._active_pool()
        for _ in range(self._workers):
            while not self._ready.acquire(block=False):
                if not pool.active:
                    raise InternalError("The decode processes do not start.")
                await asyncio.sleep(_POLL_S)
        self.sandbox = tuple(await asyncio.wrap_future(pool.schedule(child.active_layers, args=(self._config,))))

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
        async with self._free:
            try:
                return await self._run(path, out, spec, request, caller)
            except BrokenProcessPool:
                # A process that dies idle breaks the whole pool, and the upload is innocent: again, on a new one.
                try:
                    return await self._run(path, out, spec, request, caller)
                except BrokenProcessPool as error:
                    raise InternalError("The decode processes do not start.") from error

    async def close(self) -> None:
        """Kill all decodes and processes. Decodes that are awaited end with Draining."""
        self._closed = True
        if self._pool is not None:
            await asyncio.gather(*(_kill(self._pool, future) for future in self._running))
            self._reap(self._pool)
            self._pool = None
        await asyncio.gather(*self._reaping)

    def _reap(self, pool: ProcessPool) -> None:
        task = asyncio.create_task(asyncio.to_thread(_end, pool))
        self._reaping.add(task)
        task.add_done_callback(self._reaping.discard)

    def _active_pool(self) -> ProcessPool:
        if self._closed:
            raise Draining("The decode pool is closed.")
        if self._pool is not None and not self._pool.active:
            self._reap(self._pool)
            self._pool = None
        if self._pool is None:
            self._pool = ProcessPool(
                max_workers=self._workers,
                # Cells are replaced, not the processes that fork them: one of those takes a second of CPU to start.
                max_tasks=0 if child.HAS_CELLS else self._config.decode_recycle_after,
                initializer=child.initialise,
                initargs=(self._config, os.getpid(), self._ready),
                context=self._context,
            )
            # Asking starts the processes, and does so in this thread.
            _ = self._pool.active
        return self._pool

    async def _run(self, path: Path, out: Path, spec: ModelSpec, request: JobRequest, caller: str) -> DecodedVideo:
        pool = self._active_pool()
        # A class of another room would bring that room's modules into the decode processes.
        request = JobRequest(**request.model_dump())
        try:
            future = pool.schedule(
                child.decode,
                args=(path, out, spec, request, self._config, caller),
                timeout=self._config.decode_timeout_s,
            )
        except RuntimeError as error:
            raise BrokenProcessPool("the pool broke before it took the task") from error
        self._running.add(future)
        try:
            return await self._result(pool, future)
        except asyncio.CancelledError:
            await asyncio.shield(_kill(pool, future))
            task = asyncio.current_task()
            if self._closed and not (task and task.cancelling()):
                raise Draining("The decode pool closed before the upload was decoded.") from None
            raise
        except TimeoutError as error:
            limit = self._config.decode_timeout_s
            raise DecodeTimeout(f"Decoding took longer than {limit:g} s.", limit=limit) from error
        except ProcessExpired as error:
            raise crash(error.exitcode, self._config) from error
        finally:
            self._running.discard(future)

    async def _result(self, pool: ProcessPool, future: ProcessFuture[DecodedVideo]) -> DecodedVideo:
        decoded = asyncio.wrap_future(future)
        while not decoded.done():
            await asyncio.wait({decoded}, timeout=_WATCH_S)
            if not decoded.done() and not pool.active and not self._closed:
                # The pool forgets tasks that it is handed at the very moment of breaking: they would wait for ever.
                future.cancel()  # type: ignore[no-untyped-call]
                raise BrokenProcessPool("the pool broke with the task in its queue")
        return decoded.result()


async def _kill(pool: ProcessPool, future: ProcessFuture[DecodedVideo]) -> None:
    """Cancel the task and wait until its process is dead."""
    # Of a task that it does not know to be running, the pool reports the cancellation before it kills the process.
    while pool.active and not (future.running() or future.done()):  # noqa: ASYNC110 - pebble has no event for it
        await asyncio.sleep(_POLL_S)
    future.cancel()  # type: ignore[no-untyped-call]
    if pool.active:
        await asyncio.to_thread(wait, [future], _KILL_S)


def _end(pool: ProcessPool) -> None:
    pool.stop()  # type: ignore[no-untyped-call]
    pool.join()
