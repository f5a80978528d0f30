"""Which process decodes whose uploads: real ones, of a fork server that loads no decoder."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar
from weakref import WeakSet

import psutil
import pytest

from service.video import sandbox_child
from service.video.forkserver_client import ForkServer, ServerGone
from service.video.forkserver_main import Prepare
from service.video.sandbox_pool import SandboxPool
from testing.program import runs
from tests.integration.video.test_pool import fork_servers
from tests.integration.video.test_pool import sandbox_workers as running_workers


def nothing_to_prepare() -> sandbox_child.Work:
    """The work: it does nothing."""
    return lambda upload, clips, task, tell: {}


class Circle:
    """Holds itself, as a container holds its streams and they the container."""

    alive: ClassVar[WeakSet[Circle]] = WeakSet()

    def __init__(self) -> None:
        self.itself = self
        self.alive.add(self)


def circles() -> sandbox_child.Work:
    """The work: it says how many circles of uploads before are alive, and makes one."""

    def work(upload: sandbox_child.Source, clips: sandbox_child.FdFile, task: bytes, tell: object) -> dict[str, Any]:
        before = len(Circle.alive)
        Circle()
        return {"before": before}

    return work


Ran = Callable[..., Awaitable[int]]


@asynccontextmanager
async def cells_of(
    most: int, uploads: int, prepare: Prepare = nothing_to_prepare, answer: bytes = b"{}"
) -> AsyncIterator[tuple[SandboxPool, Ran]]:
    """Sandbox workers, and a way to hand one an upload of a caller and learn which process it is."""
    pool = SandboxPool(ForkServer(prepare), most, uploads)

    async def ran(caller: str, *, good: bool = True) -> int:
        worker = await pool.take(caller)
        with open(os.devnull, "rb") as nothing:  # noqa: ASYNC230 - it is no file
            await worker.begin(nothing.fileno(), nothing.fileno(), b"", cpu_s=10, file_bytes=1)
        assert await worker.report(100) == answer
        if good:
            pool.give_back(worker, caller)
        else:
            pool.discard(worker)
        return worker.pid

    try:
        yield pool, ran
    finally:
        await pool.close()


async def test_uploads_of_one_caller_share_a_process() -> None:
    async with cells_of(1, 100) as (_, ran):
        assert len({await ran("ann") for _ in range(5)}) == 1


async def test_no_process_sees_the_uploads_of_two_callers() -> None:
    async with cells_of(1, 100) as (_, ran):
        by_caller = [(caller, await ran(caller)) for caller in ("ann", "bob", "ann", "ann", "bob")]
    assert not {pid for name, pid in by_caller if name == "ann"} & {pid for name, pid in by_caller if name == "bob"}


async def test_callers_keep_their_processes_while_there_are_enough() -> None:
    async with cells_of(2, 100) as (_, ran):
        by_caller = {(caller, await ran(caller)) for caller in ("ann", "bob", "ann", "ann", "bob")}
    assert len(by_caller) == 2


async def test_nothing_of_an_upload_is_left_when_the_next_one_comes() -> None:
    async with cells_of(1, 100, circles, b'{"before": 0}') as (_, ran):
        assert len({await ran("ann") for _ in range(3)}) == 1


async def test_a_process_is_replaced_after_its_share_of_uploads() -> None:
    async with cells_of(1, 2) as (_, ran):
        first, second, third, fourth = [await ran("ann") for _ in range(4)]
    assert (first == second, second == third, third == fourth) == (True, False, True)


async def test_a_process_for_each_upload() -> None:
    async with cells_of(1, 1) as (_, ran):
        assert len({await ran("ann") for _ in range(4)}) == 4


async def test_a_process_whose_upload_failed_is_not_used_again() -> None:
    async with cells_of(1, 100) as (_, ran):
        assert await ran("ann", good=False) != await ran("ann")


async def test_more_may_be_taken_at_once_than_are_ready() -> None:
    async with cells_of(1, 100) as (pool, _):
        taken = [await pool.take("ann") for _ in range(4)]
        assert len({worker.pid for worker in taken}) == 4
        for worker in taken:
            await pool.end(worker)


async def test_there_are_no_more_processes_than_agreed_and_no_zombies() -> None:
    async with cells_of(2, 3) as (pool, ran):
        for number in range(30):
            await ran(f"caller {number % 5}", good=bool(number % 7))
        await pool.end(await pool.take("last"))
        # Those whose place was needed are ended beside it.
        while not all(runs(worker) for worker in running_workers()):  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
        assert len(running_workers()) <= 4


async def test_how_one_ended_is_told() -> None:
    async with cells_of(1, 100) as (pool, ran):
        worker = await pool.take("ann")
        await worker.sandbox_layers()
        os.kill(worker.pid, signal.SIGTERM)
        while psutil.Process(worker.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)  # noqa: ASYNC251 - nothing else goes on
        assert (await pool.end(worker)).code == -signal.SIGTERM
        assert await ran("ann")


async def test_without_a_fork_server_nothing_is_handed_out() -> None:
    async with cells_of(1, 100) as (pool, ran):
        await ran("ann")
        # Bob's process is there before the server ends.
        await pool.fill()
        [server] = fork_servers()
        server.kill()
        taken = await pool.take("bob")
        with pytest.raises(ServerGone):
            await pool.end(taken)
        assert pool.gone
