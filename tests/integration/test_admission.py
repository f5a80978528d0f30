import pytest
from redis.asyncio import Redis

from service.api.admission import Admission, AdmissionConfig
from service.api.decode_pace import DecodePace
from service.contracts import JobRequest, WorkerStatus
from service.errors import QueueFull
from service.queue.idempotency import IdempotencyKeys, IdempotencyTimes
from service.queue.keys import Keys
from service.queue.models import ModelDirectory
from service.queue.room import Room, RoomLimits
from tests.factories import spec

CONFIG = AdmissionConfig(
    default_model="tiny",
    max_auto_windows=10,
    max_clips_per_job=20,
    max_concurrent_uploads=8,
    max_wait_share=0.5,
    bulk_clips=16,
    reservation_ttl_s=5.0,
)
LIMITS = RoomLimits(
    max_queue_clips=1000,
    max_queue_bytes=1 << 30,
    max_wait_share=0.5,
    reservation_ttl_s=5.0,
    worker_interactive_weight=4,
)


@pytest.fixture
def pace() -> DecodePace:
    return DecodePace(processes=2)


@pytest.fixture
async def admission(redis: Redis, keys: Keys, directory: ModelDirectory, pace: DecodePace) -> Admission:
    await directory.announce([spec()], WorkerStatus(worker="one", models=("tiny:1",)), ttl_s=60.0)
    times = IdempotencyTimes(idempotency_ttl_s=60, reservation_ttl_s=5.0)
    return Admission(CONFIG, directory, Room(redis, keys, LIMITS), IdempotencyKeys(redis, keys, times), pace)


def admit(admission: Admission, job_id: str, deadline_s: float = 10.0):  # type: ignore[no-untyped-def]
    return admission.admit(job_id, JobRequest(windows=1), None, deadline_s, asynchronous=False)


async def test_an_upload_that_would_wait_too_long_to_be_decoded_is_refused(
    admission: Admission, pace: DecodePace
) -> None:
    pace.observe(4.0)
    async with admit(admission, "a"), admit(admission, "b"):
        with pytest.raises(QueueFull, match="2 uploads would be decoded") as caught:
            async with admit(admission, "c"):
                pass
        assert (caught.value.limit, caught.value.actual) == (5.0, 6.0)
        assert 1.0 <= (caught.value.retry_after_s or 0.0) <= 4.0
        async with admit(admission, "d", deadline_s=60.0):
            pass


async def test_an_idle_process_takes_an_upload_however_slow_the_last_ones_were(
    admission: Admission, pace: DecodePace
) -> None:
    pace.observe(1000.0)
    async with admit(admission, "a") as admitted:
        assert admitted.spec.name == "tiny"


async def test_more_uploads_than_a_process_may_hold_are_refused(admission: Admission) -> None:
    async with admit(admission, "0"), admit(admission, "1"), admit(admission, "2"), admit(admission, "3"):
        async with admit(admission, "4"), admit(admission, "5"), admit(admission, "6"), admit(admission, "7"):
            with pytest.raises(QueueFull) as caught:
                async with admit(admission, "8"):
                    pass
    assert (caught.value.limit, caught.value.actual) == (8, 8)
