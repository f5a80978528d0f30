from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest
import redis as redis_py
import structlog
from redis.asyncio import Redis

from service.contracts import DeadLetter, JobRecord, JobState
from service.errors import BackendFailed
from service.local.redis import LocalRedis
from service.queue.backlog import backlogs
from service.queue.clip_stream import ClipStream
from service.queue.codec import Outcome
from service.queue.connection import connect
from service.queue.dead_letters import DeadLetterConfig, DeadLetters
from service.queue.job_intake import JobTtlConfig
from service.queue.job_store import JobStore
from service.queue.model_directory import ModelDirectory
from service.queue.redis_keys import RedisKeys
from testing.factories import clip
from tests.fixtures.access_list import restricted
from tests.fixtures.keyspace import immortal

TIMES = JobTtlConfig(payload_ttl_s=100, result_ttl_s=200, tombstone_ttl_s=300, idempotency_ttl_s=400)
LETTERS = DeadLetterConfig(dead_letter_ttl_s=400, dead_letter_max_jobs=10, dead_letter_max_bytes=1_000_000)


async def waiting(redis: Redis, keys: RedisKeys) -> int:
    """Clips of the model `tiny` that are queued or being scored."""
    return sum(of_class.clips for of_class in (await backlogs(redis, keys)).get("tiny", {}).values())


@pytest.fixture(scope="session", autouse=True)
def _brief_tracebacks() -> None:
    """Without this an exception that a worker logs takes seconds to render, and its lease runs out."""
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])


@pytest.fixture(scope="session")
def redis_url(redis_server: LocalRedis) -> str:
    """The server as the compose stack lets the service use it: a command that it does not allow fails the test."""
    return restricted(redis_server.url, prefix="test-*", also="+scan +memory|usage")


@pytest.fixture(autouse=True)
def nothing_lives_for_ever(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test does with its keys, each of them expires or is one of those that empty themselves."""
    if "keys" not in request.fixturenames:
        yield
        return
    server, keys = request.getfixturevalue("redis_server"), request.getfixturevalue("keys")
    yield
    with redis_py.Redis.from_url(server.url) as client:
        assert immortal(client, keys) == []


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url, name="tests")
    yield client
    await client.aclose()


@pytest.fixture
def keys() -> RedisKeys:
    return RedisKeys(f"test-{uuid4().hex}")


@pytest.fixture
def store(redis: Redis, keys: RedisKeys) -> JobStore:
    return JobStore(redis, keys, TIMES)


@pytest.fixture
def directory(redis: Redis, keys: RedisKeys) -> ModelDirectory:
    return ModelDirectory(redis, keys)


async def give_up(dead: DeadLetters, job: JobRecord, clip_number: int = 0) -> bool:
    """Let one clip of a job end it, as a worker does that its backend refused."""
    cause = BackendFailed("the network said no")
    letter = DeadLetter(
        job_id=job.id,
        clip=clip_number,
        code=cause.code,
        detail=cause.detail,
        model="tiny",
        version="1",
        deliveries=3,
        created_at=0.0,
        clip_bytes=len(clip(0)),
    )
    return await dead.add(letter, Outcome(JobState.FAILED, error=cause))


@pytest.fixture
def dead(redis: Redis, keys: RedisKeys) -> DeadLetters:
    return DeadLetters(redis, keys, TIMES, LETTERS)


@pytest.fixture
async def stream(redis: Redis, keys: RedisKeys) -> ClipStream:
    stream = ClipStream(redis, keys, "one")
    await stream.join(["tiny"])
    return stream
