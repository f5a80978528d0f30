import pytest
from redis.asyncio import Redis

from service.contracts import JobClass, JobState
from service.errors import BackendFailed, IdempotencyInProgress, JobDeleted, UnknownJob
from service.queue.clip_stream import ClipStream
from service.queue.codec import Outcome
from service.queue.idempotency import Claim, Earlier, IdempotencyConfig, IdempotencyKeys
from service.queue.job_store import JobStore
from service.queue.redis_keys import RedisKeys
from testing.factories import clip, decoded, record


@pytest.fixture
def idempotency(redis: Redis, keys: RedisKeys) -> IdempotencyKeys:
    return IdempotencyKeys(redis, keys, IdempotencyConfig(idempotency_ttl_s=100, reservation_ttl_s=5.0))


async def claimed(idempotency: IdempotencyKeys, job_id: str) -> Claim:
    claim = await idempotency.claim("key", job_id)
    assert isinstance(claim, Claim)
    return claim


async def test_a_key_belongs_to_the_first_request_until_its_job_is_accepted(idempotency: IdempotencyKeys) -> None:
    await claimed(idempotency, "first")
    with pytest.raises(IdempotencyInProgress) as caught:
        await idempotency.claim("key", "second")
    assert caught.value.retry_after_s


async def test_a_key_leads_to_the_accepted_job(idempotency: IdempotencyKeys, store: JobStore) -> None:
    job = record()
    await store.accept(job, claim=await claimed(idempotency, job.id), fingerprint="print")
    assert await idempotency.claim("key", "second") == Earlier(job.id, "print")


async def test_a_failed_request_leaves_its_key_free(idempotency: IdempotencyKeys) -> None:
    await idempotency.release(await claimed(idempotency, "first"))
    await claimed(idempotency, "second")


async def test_releasing_late_does_not_take_the_key_from_an_accepted_job(
    idempotency: IdempotencyKeys, store: JobStore
) -> None:
    job = record()
    claim = await claimed(idempotency, job.id)
    await store.accept(job, claim=claim, fingerprint="print")
    await idempotency.release(claim)
    assert isinstance(await idempotency.claim("key", "second"), Earlier)


async def test_a_request_that_was_held_up_too_long_makes_no_second_job(
    idempotency: IdempotencyKeys, store: JobStore, redis: Redis, keys: RedisKeys
) -> None:
    late, other = record(), record()
    claim = await claimed(idempotency, late.id)
    await redis.delete(claim.key)
    await store.accept(other, claim=await claimed(idempotency, other.id), fingerprint="print")
    with pytest.raises(IdempotencyInProgress):
        await store.accept(late, claim=claim, fingerprint="print", clips=memoryview(clip(0)))
    assert not await redis.exists(keys.payload(late.id, 0))
    assert await redis.xlen(keys.clips("tiny", JobClass.INTERACTIVE)) == 1
    with pytest.raises(UnknownJob):
        await store.status(late.id)


async def test_an_upload_whose_key_lapsed_is_accepted_where_no_other_request_has_the_key(
    idempotency: IdempotencyKeys, store: JobStore, redis: Redis
) -> None:
    job = record()
    claim = await claimed(idempotency, job.id)
    await redis.delete(claim.key)
    await store.accept(job, claim=claim, fingerprint="print")
    assert await idempotency.claim("key", "second") == Earlier(job.id, "print")


async def test_a_delayed_upload_makes_no_job_after_the_one_of_its_key_was_deleted(
    idempotency: IdempotencyKeys, store: JobStore, redis: Redis
) -> None:
    late, other = record(), record()
    claim = await claimed(idempotency, late.id)
    await redis.delete(claim.key)
    await store.accept(other, claim=await claimed(idempotency, other.id), fingerprint="print")
    await store.cancel(other.id)
    await idempotency.renew([claim])
    with pytest.raises(IdempotencyInProgress):
        await store.accept(late, claim=claim, fingerprint="print")


async def test_cancelling_erases_clips_scores_and_key_and_the_work_is_dropped(
    idempotency: IdempotencyKeys, store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    job = record(decoded=decoded(windows=2))
    await store.put_payloads(job.id, memoryview(clip(0) + clip(1)), len(clip(0)))
    claim = await claimed(idempotency, job.id)
    await store.accept(job, claim=claim, fingerprint="print")
    assert await store.cancel(job.id)
    assert not await redis.exists(keys.payload(job.id, 0), keys.payload(job.id, 1), keys.outcome(job.id))
    assert b'"print"' not in (await redis.get(claim.key) or b"")
    assert 0 < await redis.ttl(claim.key) <= await redis.ttl(keys.job(job.id))
    assert isinstance(await idempotency.claim("key", "later"), Claim)
    assert [s.job for s in await stream.look_up(await stream.read(["tiny"], 8, 10))] == ["finished", "finished"]
    with pytest.raises(JobDeleted):
        await store.status(job.id)
    outcome = await store.outcome(job.id)
    assert outcome is not None
    assert outcome.state is JobState.CANCELLED


async def test_a_key_that_was_given_the_result_of_a_job_is_free_once_the_job_is_deleted(
    idempotency: IdempotencyKeys, store: JobStore
) -> None:
    job = record()
    await store.accept(job)
    claim = await claimed(idempotency, "another")
    await idempotency.lead(claim, job.id, "print")
    await store.cancel(job.id)
    assert isinstance(await idempotency.claim("key", "later"), Claim)


async def test_the_key_of_a_request_that_goes_on_is_kept_for_it(
    idempotency: IdempotencyKeys, redis: Redis, keys: RedisKeys
) -> None:
    claim = await claimed(idempotency, "first")
    await redis.pexpire(claim.key, 500)
    await idempotency.renew([claim])
    assert await redis.pttl(claim.key) > 500


async def test_a_key_that_lapsed_is_back_with_the_next_renewal_and_may_lead_to_a_job(
    idempotency: IdempotencyKeys, redis: Redis
) -> None:
    claims = [await idempotency.claim(name, name) for name in ("one", "two")]
    kept = [claim for claim in claims if isinstance(claim, Claim)]
    await redis.delete(*(claim.key for claim in kept))
    await idempotency.renew(kept)
    for claim in kept:
        assert await redis.get(claim.key) == claim.token.encode()
        assert 0 < await redis.pttl(claim.key) <= 5000
    await redis.delete(kept[0].key)
    await idempotency.lead(kept[0], "job", "print")
    assert await idempotency.claim("one", "second") == Earlier("job", "print")


async def test_a_key_that_has_gone_to_another_request_is_neither_renewed_nor_led_elsewhere(
    idempotency: IdempotencyKeys, redis: Redis, keys: RedisKeys
) -> None:
    late = await claimed(idempotency, "late")
    await redis.delete(late.key)
    now = await claimed(idempotency, "now")
    await redis.pexpire(now.key, 500)
    await idempotency.renew([late])
    await idempotency.lead(late, "another", "print")
    assert await redis.get(now.key) == now.token.encode()
    assert await redis.pttl(now.key) <= 500


async def test_a_cancelled_job_cannot_finish(store: JobStore) -> None:
    job = record()
    await store.accept(job)
    await store.cancel(job.id)
    assert not await store.finish(job.id, Outcome(JobState.FAILED, error=BackendFailed("x")))
    assert not await store.cancel(job.id), "the second time there was nothing left to cancel"
