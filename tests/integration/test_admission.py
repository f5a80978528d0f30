import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

import pytest
from redis.asyncio import Redis

from service.api.admission import Admission, AdmissionConfig, Admitted
from service.api.shares import Shares
from service.contracts import JobClass, JobRequest, ModelSpec, WorkerStatus
from service.errors import EvidenceTooLarge, EvidenceUnavailable, InvalidOption, QueueFull, UnknownModel
from service.queue.capacity import CapacityConfig, QueueCapacity, Reservation
from service.queue.claims import Claims
from service.queue.clip_routes import masked_route_of
from service.queue.fleet import Fleet
from service.queue.idempotency import Claim, IdempotencyConfig, IdempotencyKeys
from service.queue.job_reader import JobReader
from service.queue.live_models import LiveModels
from service.queue.model_directory import ModelDirectory
from service.queue.partitions import PerPartition
from service.queue.redis_keys import RedisKeys
from service.video.decode_scheduler import DecodeScheduler
from testing.factories import spec
from tests.fixtures.replies import members

CONFIG = AdmissionConfig(
    default_model="tiny",
    max_auto_windows=10,
    max_clips_per_job=20,
    max_evidence_forwards=100,
    max_spatial_cells=500_000,
    max_concurrent_uploads=8,
    max_wait_share=0.5,
    bulk_clips=16,
    reservation_ttl_s=5.0,
    reservation_start_clips=10,
)
LIMITS = CapacityConfig(
    max_queue_clips=1000,
    max_queue_bytes=1 << 30,
    max_wait_share=0.5,
    reservation_ttl_s=5.0,
    worker_interactive_weight=4,
)


@pytest.fixture
def scheduler() -> DecodeScheduler:
    return DecodeScheduler(processes=2)


@pytest.fixture
async def admission(redis: Redis, keys: RedisKeys, directory: ModelDirectory, scheduler: DecodeScheduler) -> Admission:
    await directory.announce([spec()], WorkerStatus(worker="one", models=("tiny:1",)), ttl_s=60.0)
    return Admission(CONFIG, *parts(redis, keys, directory), scheduler)


def parts(
    redis: Redis, keys: RedisKeys, directory: ModelDirectory
) -> tuple[LiveModels, PerPartition[QueueCapacity], Claims]:
    """What one partition gives to the admission."""
    times = IdempotencyConfig(idempotency_ttl_s=60, reservation_ttl_s=5.0)
    claims = Claims(
        PerPartition([IdempotencyKeys(redis, keys, times)]), PerPartition([JobReader(redis, keys, result_ttl_s=60)])
    )
    return LiveModels(PerPartition([directory])), PerPartition([QueueCapacity(redis, keys, LIMITS)]), claims


def admit(
    admission: Admission, deadline_s: float = 10.0, caller: str = ""
) -> contextlib.AbstractAsyncContextManager[Admitted]:
    return admission.admit(JobRequest(windows=1), None, deadline_s, asynchronous=False, caller=caller)


async def test_an_upload_that_would_wait_too_long_to_be_decoded_is_refused(
    admission: Admission, scheduler: DecodeScheduler
) -> None:
    scheduler.observe(4.0)
    async with admit(admission), admit(admission):
        with pytest.raises(QueueFull, match="2 uploads are ahead") as caught:
            async with admit(admission):
                pass
        assert (caught.value.limit, caught.value.actual) == (5.0, 6.0)
        assert 1.0 <= (caught.value.retry_after_s or 0.0) <= 4.0
        async with admit(admission, deadline_s=60.0):
            pass


async def test_an_idle_process_takes_an_upload_however_slow_the_last_ones_were(
    admission: Admission, scheduler: DecodeScheduler
) -> None:
    scheduler.observe(1000.0)
    async with admit(admission) as admitted:
        assert admitted.spec.name == "tiny"


async def test_uploads_at_one_time_share_one_look_at_what_is_served(
    admission: Admission, directory: ModelDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, live = 0, directory.live

    async def counted() -> tuple[list[ModelSpec], Fleet]:
        nonlocal looks
        looks += 1
        return await live()

    monkeypatch.setattr(directory, "live", counted)
    monkeypatch.setattr("service.api.model_choice.LIVE_S", 1000.0)
    async with contextlib.AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(admit(admission)) for _ in range(8)))
    assert looks == 1


async def test_a_model_that_was_not_there_a_moment_ago_is_looked_for_again(
    admission: Admission, directory: ModelDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.model_choice.LIVE_S", 1000.0)
    monkeypatch.setattr("service.api.model_choice.REFUSAL_S", 0.0)
    async with admit(admission):
        pass
    wanted = JobRequest(windows=1, model="new")
    with pytest.raises(UnknownModel):
        await model_for(admission, wanted)
    await directory.announce([spec(name="new")], WorkerStatus(worker="one", models=("new:1",)), ttl_s=60.0)
    assert await model_for(admission, wanted) == "new"


async def model_for(admission: Admission, wanted: JobRequest) -> str:
    """The model that an upload is admitted for."""
    async with admission.admit(wanted, None, 10.0, asynchronous=False) as admitted:
        return admitted.spec.name


async def test_more_uploads_than_a_process_may_hold_are_refused(admission: Admission) -> None:
    async with admit(admission), admit(admission), admit(admission), admit(admission):
        async with admit(admission), admit(admission), admit(admission), admit(admission):
            with pytest.raises(QueueFull) as caught:
                async with admit(admission):
                    pass
    assert (caught.value.limit, caught.value.actual) == (8, 8)


async def test_one_caller_leaves_slots_to_others(
    redis: Redis, keys: RedisKeys, directory: ModelDirectory, scheduler: DecodeScheduler
) -> None:
    await directory.announce([spec()], WorkerStatus(worker="one", models=("tiny:1",)), ttl_s=60.0)
    admission = Admission(CONFIG, *parts(redis, keys, directory), scheduler, Shares(0.75))
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(6):
            await stack.enter_async_context(admit(admission, caller="key:flood"))
        with pytest.raises(QueueFull, match="of this caller") as caught:
            async with admit(admission, caller="key:flood"):
                pass
        assert (caught.value.limit, caught.value.actual) == (6, 6)
        with pytest.raises(QueueFull):
            stack.enter_context(admission.slot("key:flood", 10.0))
        async with admit(admission, caller="key:good"):
            pass


async def test_an_upload_of_unknown_length_reserves_little_until_it_is_there(
    admission: Admission, redis: Redis, keys: RedisKeys
) -> None:
    film = admission.admit(JobRequest(windows="all"), None, 10.0, asynchronous=False, caller="key:app")
    async with film as admitted:
        assert await reserved(redis, keys) == 10
        await admission.complete(admitted)
        assert await reserved(redis, keys) == 20
        await admission.complete(admitted)
    assert await reserved(redis, keys) == 0


async def test_room_that_is_gone_once_an_upload_is_there_is_said_before_it_is_decoded(
    admission: Admission, redis: Redis, keys: RedisKeys
) -> None:
    rest = QueueCapacity(redis, keys, LIMITS)
    film = admission.admit(JobRequest(windows="all"), None, 10.0, asynchronous=False, caller="key:app")
    async with film as admitted:
        await rest.reserve(Reservation("other", JobClass.BULK, 985, 1, "tiny"), [spec()], None, 10.0)
        with pytest.raises(QueueFull) as caught:
            await admission.complete(admitted)
        assert (caught.value.limit, caught.value.actual) == (1000, 1005)
        assert caught.value.retry_after_s
    assert await reserved(redis, keys) == 985


async def test_what_ends_while_it_is_renewed_is_not_brought_back(
    admission: Admission, redis: Redis, keys: RedisKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    renew = QueueCapacity.renew
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(admit(admission))

        async def late(capacity: QueueCapacity, reservations: Iterable[Reservation]) -> None:
            await stack.aclose()
            await renew(capacity, reservations)

        monkeypatch.setattr(QueueCapacity, "renew", late)
        await admission._renew()
    assert await reserved(redis, keys) == 0


async def test_a_key_whose_request_ends_while_it_is_renewed_is_free(
    admission: Admission, monkeypatch: pytest.MonkeyPatch
) -> None:
    renew, claim = IdempotencyKeys.renew, await admission.earlier("key", "")
    assert isinstance(claim, Claim)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(admission.admit(JobRequest(windows=1), claim, 10.0, asynchronous=False))

        async def late(keys: IdempotencyKeys, claims: Iterable[Claim]) -> None:
            await stack.aclose()
            await renew(keys, claims)

        monkeypatch.setattr(IdempotencyKeys, "renew", late)
        await admission._renew()
    assert isinstance(await admission.earlier("key", ""), Claim)


async def evidence_is_measured_by_a_worker(directory: ModelDirectory) -> None:
    routes = (masked_route_of(spec()),)
    await directory.announce([spec()], WorkerStatus(worker="one", models=("tiny:1",), routes=routes), ttl_s=60.0)


def evidence_of(admission: Admission, **options: Any) -> contextlib.AbstractAsyncContextManager[Admitted]:
    request = JobRequest(evidence="causal", **options)
    return admission.admit(request, None, 10.0, asynchronous=False, caller="")


async def test_evidence_reserves_a_clip_for_each_set_of_frames_and_the_bytes_of_whole_ones(
    admission: Admission, directory: ModelDirectory
) -> None:
    await evidence_is_measured_by_a_worker(directory)
    async with evidence_of(admission, windows=2, crops=3) as admitted:
        await admission.complete(admitted)
        held = admitted.reservation
        assert (admitted.most_views, held.clips, held.job_class) == (6, 6 * 16, JobClass.BULK)
        assert held.clips * held.clip_bytes == 6 * spec().clip_bytes
        assert admitted.job_model.route == masked_route_of(spec())


async def test_evidence_beyond_the_limit_is_refused_with_limit_and_actual(
    admission: Admission, directory: ModelDirectory
) -> None:
    await evidence_is_measured_by_a_worker(directory)
    with pytest.raises(EvidenceTooLarge, match="takes 112 clips") as caught:
        admission.check_forwards(7 * 16)
    assert (caught.value.limit, caught.value.actual) == (100, 112)
    async with evidence_of(admission, windows="all") as admitted:
        assert admitted.most_clips == 100, "no more is ever reserved: what needs more is refused once it is decoded"


async def test_evidence_needs_a_worker_that_leaves_frames_out(admission: Admission) -> None:
    with pytest.raises(EvidenceUnavailable, match="earlier release"):
        async with evidence_of(admission, windows=1):
            pass
    async with admit(admission):
        pass


async def test_evidence_for_a_label_that_the_model_lacks_is_refused(
    admission: Admission, directory: ModelDirectory
) -> None:
    await evidence_is_measured_by_a_worker(directory)
    with pytest.raises(InvalidOption, match="no label 'jump'"):
        async with evidence_of(admission, windows=1, evidence_label="jump"):
            pass


async def reserved(redis: Redis, keys: RedisKeys) -> int:
    """Clips that room is reserved for."""
    return sum(int(member.split(b":")[2]) for member in members(await redis.zrange(keys.reserved, 0, -1)))
