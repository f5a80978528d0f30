"""Whatever dies, an accepted job is answered, and once. Counted over a steady load on real processes."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from service.local.triton_process import LocalTriton
from service.queue.redis_keys import RedisKeys
from testing.videos import write_video
from tests.chaos.rig import JOBS, LEASE_S, PREFIX, Account, Load, Service
from tests.fixtures.keyspace import check_settled
from tests.fixtures.servers import SHIPPED_REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", 75, fps=25, size=(96, 64)).read_bytes()


async def part(load: Load, share: float) -> None:
    """Wait until so much of the load has been sent."""
    while load.started < share * JOBS:  # noqa: ASYNC110 - the load goes on by itself
        await asyncio.sleep(0.02)


def check(scenario: str, service: Service, account: Account) -> None:
    twice = service.finished_twice()
    print("\n" + account.line(scenario, twice))
    assert account.accepted == JOBS - account.gave_up == JOBS
    assert account.lost == account.unfinished == 0
    assert account.twice + twice == 0
    assert account.states["succeeded"] == JOBS


async def settled(service: Service) -> None:
    """No work is left, and no key that would live for ever."""
    await asyncio.to_thread(check_settled, service.redis.client, RedisKeys(PREFIX))


async def until_taken_over(service: Service, pid: int) -> float:
    """Seconds until nothing is left with a worker that is gone."""
    since = time.monotonic()
    while await asyncio.to_thread(service.held_by, pid):  # noqa: ASYNC110 - another process's doing
        await asyncio.sleep(0.02)
    return time.monotonic() - since


async def test_a_worker_killed_in_the_middle_of_a_batch(tmp_path: Path, body: bytes) -> None:
    with Service(tmp_path, apis=2, workers=2).running() as service:
        load = Load(service.ports, body)
        running = asyncio.create_task(load.run())
        # A worker takes seconds to start; a short load is over before a second one could be killed.
        for share in (0.3,) if JOBS < 300 else (0.2, 0.5, 0.8):
            await part(load, share)
            pid = await asyncio.to_thread(service.worker_with_work)
            os.kill(pid, signal.SIGKILL)
            seconds = await until_taken_over(service, pid)
            print(f"\nworker killed: its clips were in other hands after {seconds:.2f} s (lease {LEASE_S:g} s)")
            await asyncio.to_thread(service.restart_worker, pid)
        check("worker killed", service, await running)
        await settled(service)


async def test_a_worker_that_is_stopped_and_wakes_after_its_lease(tmp_path: Path, body: bytes) -> None:
    with Service(tmp_path, apis=1, workers=2).running() as service:
        load = Load(service.ports, body)
        running = asyncio.create_task(load.run())
        await part(load, 0.3)
        pid = await asyncio.to_thread(service.worker_with_work)
        os.kill(pid, signal.SIGSTOP)
        try:
            await until_taken_over(service, pid)
            await part(load, 0.9)
        finally:
            os.kill(pid, signal.SIGCONT)
        check("worker stopped and awake again", service, await running)
        await settled(service)


async def test_an_api_killed_with_jobs_open(tmp_path: Path, body: bytes) -> None:
    with Service(tmp_path, apis=2, workers=2).running() as service:
        load = Load(service.ports, body)
        running = asyncio.create_task(load.run())
        for share in (0.3, 0.6):
            await part(load, share)
            service.kill_api(0)
            await asyncio.sleep(0.5)
            service.start_api(0)
        check("api killed", service, await running)
        await settled(service)


async def test_a_redis_killed_and_started_again(tmp_path: Path, body: bytes) -> None:
    with Service(tmp_path, apis=1, workers=2).running() as service:
        load = Load(service.ports, body)
        running = asyncio.create_task(load.run())
        await part(load, 0.4)
        await asyncio.to_thread(service.redis.kill)
        await asyncio.sleep(1.0)
        await asyncio.to_thread(service.redis.start)
        check("redis killed", service, await running)
        await settled(service)


async def test_a_worker_cut_off_from_redis(tmp_path: Path, body: bytes) -> None:
    with Service(tmp_path, apis=1, workers=2, relayed="worker").running() as service:
        load = Load(service.ports, body)
        running = asyncio.create_task(load.run())
        await part(load, 0.3)
        service.link.cut()
        await part(load, 0.8)
        service.link.mend()
        check("worker cut off", service, await running)
        await settled(service)


async def test_a_triton_killed_and_started_again(tmp_path: Path, body: bytes, triton_directory: Path) -> None:
    triton = LocalTriton(triton_directory, SHIPPED_REPOSITORY, log=tmp_path / "triton.log")
    await asyncio.to_thread(triton.start)
    try:
        with Service(
            tmp_path, apis=1, workers=2, engine="triton", triton_url=triton.addresses.grpc
        ).running() as service:
            load = Load(service.ports, body)
            running = asyncio.create_task(load.run())
            await part(load, 0.3)
            assert triton.pid is not None
            os.kill(triton.pid, signal.SIGKILL)
            await asyncio.to_thread(triton.stop)
            await part(load, 0.6)
            await asyncio.to_thread(triton.start)
            ready = time.monotonic()
            await asyncio.to_thread(service.wait_until_scored)
            print(f"\ntriton killed: clips were scored again {time.monotonic() - ready:.2f} s after it was ready")
            check("triton killed", service, await running)
            assert {problem.split()[0] for problem in load.account.problems} <= {"503", "504", "409"}
            await settled(service)
    finally:
        await asyncio.to_thread(triton.stop)
