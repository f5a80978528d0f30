"""Staging: clips are queued while the decode goes on, and whatever ends the decode ends the job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from service.api.admission import Admission, Admitted
from service.api.staging import JobEnded, Staging
from service.contracts import DecodedVideo, JobRecord, JobRequest, JobState
from service.errors import DeadlineExceeded, DecoderCrash, JobDeleted, Undecodable
from service.queue.capacity import Reservation
from service.queue.clock import Clock
from service.queue.job_intake import Clips, Stage
from service.queue.job_store import JobStore
from service.queue.redis_keys import RedisKeys
from testing.factories import clip, decoded, record, spec
from tests.integration.conftest import waiting
from tests.integration.test_admission import admission, scheduler

__all__ = ["admission", "scheduler"]

CLIPS = 6
PLAN = decoded(windows=CLIPS, coverage=0.5)
FINAL = decoded(windows=CLIPS)


class Decode:
    """A decode that goes on, ends or fails as a test says."""

    def __init__(self, staging: Staging, store: JobStore) -> None:
        self.staging = staging
        self._store = store
        self._end: asyncio.Future[DecodedVideo] = asyncio.get_running_loop().create_future()
        self.cancelled = False
        self.task = asyncio.create_task(staging.decode(self._decode()))

    async def _decode(self) -> DecodedVideo:
        try:
            return await self._end
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    async def reach(self, ready: int, known: DecodedVideo = PLAN) -> JobRecord:
        """So many clips are there; returns once they are queued."""
        self.staging.progress(known, ready)
        while self.staging._queued < ready:
            await asyncio.wait({self.task}, timeout=0.01)
            if self.task.done():
                await self.task
        return self.staging.job

    def end(self, known: DecodedVideo = FINAL) -> None:
        self._end.set_result(known)

    def fail(self, error: Exception) -> None:
        self._end.set_exception(error)


@pytest.fixture
async def admitted(admission: Admission) -> AsyncIterator[Admitted]:
    async with admission.admit(JobRequest(windows=CLIPS), None, 60.0, asynchronous=False) as admitted:
        yield admitted


@pytest.fixture
async def decode(
    redis: Redis, store: JobStore, admission: Admission, admitted: Admitted, tmp_path: Path
) -> AsyncIterator[Decode]:
    file = tmp_path / "clips"
    file.write_bytes(b"".join(clip(i) for i in range(CLIPS)))

    clock = Clock(redis)
    await clock.time()

    async def begin(known: DecodedVideo, clips: Clips, reservation: Reservation, stage: Stage) -> JobRecord:
        job = record(id=admitted.job_id, decoded=known)
        await store.accept(job, clips=clips, reservation=reservation, stage=stage)
        return job

    staging = Staging(file, store, admission, admitted, clock, begin)
    decode = Decode(staging, store)
    yield decode
    decode.task.cancel()
    await asyncio.wait({decode.task})
    staging.close()


async def test_clips_are_queued_in_the_order_in_which_they_come(
    decode: Decode, store: JobStore, redis: Redis, keys: RedisKeys
) -> None:
    job = await decode.reach(2)
    assert (await store.status(job.id)).clips_total == CLIPS
    assert await waiting(redis, keys) == 2
    await decode.reach(5)
    decode.end()
    final = await decode.staging.end(await decode.task)
    assert final.decoded == FINAL
    assert [await redis.get(keys.payload(job.id, i)) for i in range(CLIPS)] == [clip(i) for i in range(CLIPS)]
    assert await store.record(job.id) == final.model_copy(update={"spec": spec().job_model})


async def test_what_is_reserved_shrinks_with_what_is_queued(decode: Decode, admitted: Admitted) -> None:
    assert admitted.reservation.clips == CLIPS
    await decode.reach(2)
    assert admitted.reservation.clips == 4
    await decode.reach(5)
    assert admitted.reservation.clips == 1


async def test_a_decode_that_tells_of_nothing_begins_no_job(decode: Decode) -> None:
    decode.end()
    assert await decode.task == FINAL
    assert not decode.staging.begun


async def test_a_decode_that_fails_ends_its_job_with_the_error(decode: Decode, store: JobStore) -> None:
    job = await decode.reach(2)
    decode.fail(Undecodable("The rest is damaged."))
    with pytest.raises(Undecodable) as caught:
        await decode.task
    await decode.staging.give_up(caught.value)
    status = await store.status(job.id)
    assert status.status is JobState.FAILED
    assert status.error is not None
    assert status.error["code"] == "undecodable"


async def test_a_decode_that_takes_too_long_ends_its_job_as_expired(decode: Decode, store: JobStore) -> None:
    job = await decode.reach(2)
    await decode.staging.give_up(DeadlineExceeded("The deadline passed."))
    assert (await store.status(job.id)).status is JobState.EXPIRED


async def test_a_fault_of_the_service_ends_its_job_without_saying_what_it_was(decode: Decode, store: JobStore) -> None:
    job = await decode.reach(2)
    await decode.staging.give_up(ValueError("secret"))
    error = (await store.status(job.id)).error
    assert error is not None
    assert error["code"] == "internal_error"
    assert "secret" not in error["detail"]


async def test_a_caller_who_leaves_during_the_decode_leaves_nothing(decode: Decode, store: JobStore) -> None:
    job = await decode.reach(2)
    decode.task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await decode.task
    assert decode.cancelled
    await decode.staging.give_up(caught.value)
    with pytest.raises(JobDeleted):
        await store.status(job.id)


async def test_a_job_that_ends_during_the_decode_ends_the_decode(decode: Decode, store: JobStore) -> None:
    job = await decode.reach(2)
    await store.cancel(job.id)
    with pytest.raises(JobEnded):
        await decode.reach(4)
    assert decode.cancelled


async def test_a_decode_that_begins_anew_queues_nothing_twice(decode: Decode, redis: Redis, keys: RedisKeys) -> None:
    await decode.reach(4)
    decode.staging.progress(PLAN, 2)
    await decode.reach(5)
    assert await waiting(redis, keys) == 5


async def test_a_decode_that_contradicts_its_plan_is_not_believed(decode: Decode) -> None:
    await decode.reach(2)
    moved = FINAL.windows[0].model_copy(update={"end_s": 0.5})
    other = FINAL.model_copy(update={"windows": (moved, *FINAL.windows[1:])})
    with pytest.raises(DecoderCrash, match="other windows"):
        await decode.reach(4, other)


async def test_nothing_is_queued_once_the_decode_has_failed(
    decode: Decode, store: JobStore, redis: Redis, keys: RedisKeys
) -> None:
    decode.staging.progress(PLAN, 2)
    decode.fail(Undecodable("It is damaged."))
    with pytest.raises(Undecodable) as caught:
        await decode.task
    await decode.staging.give_up(caught.value)
    queued = await waiting(redis, keys)
    await asyncio.sleep(0.05)
    assert await waiting(redis, keys) == queued
    assert queued == 0 or (await store.status(decode.staging.job.id)).status is JobState.FAILED
