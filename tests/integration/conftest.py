from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest
import redis as redis_py
import structlog
from redis.asyncio import Redis

from service.contracts import DeadLetter, JobRecord, JobState
from service.errors import BackendFailed
from service.queue.backlog import backlogs
from service.queue.clip_stream import ClipStream
from service.queue.codec import Outcome
from service.queue.connection import connect
from service.queue.dead_letters import DeadLetterConfig, DeadLetters
from service.queue.job_intake import JobTtlConfig
from service.queue.job_store import JobStore
from service.queue.model_directory import ModelDirectory
from service.queue.redis_keys import RedisKeys
from service.redis_url import hash_tag, prefix_of_keys
from testing.factories import clip
from tests.fixtures.keyspace import immortal
from tests.fixtures.queue_servers import QueueServers, queue_servers

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
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[QueueServers]:
    """One server, several under Sentinels or a cluster, as `VIDTR_TEST_REDIS` says."""
    with queue_servers(tmp_path_factory.mktemp("servers"), lambda: request.getfixturevalue("redis_server")) as running:
        yield running


@pytest.fixture(scope="session")
def redis_url(servers: QueueServers) -> str:
    """The server as the compose stack lets the service use it: a command that it does not allow fails the test."""
    return servers.restricted(prefix="test-*", also="+scan +memory|usage +cluster|slots")


@pytest.fixture(autouse=True)
def nothing_lives_for_ever(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test does with its keys, each of them expires or is one of those that empty themselves."""
    if "keys" not in request.fixturenames:
        yield
        return
    servers, keys = request.getfixturevalue("servers"), request.getfixturevalue("keys")
    yield
    with redis_py.Redis.from_url(servers.server_of(keys.prefix)) as client:
        assert immortal(client, keys) == []


@pytest.fixture
async def redis(redis_url: str, keys: RedisKeys) -> AsyncIterator[Redis]:
    client = connect(redis_url, name="tests", tag=hash_tag(keys.prefix))
    yield client
    await client.aclose()


@pytest.fixture
def keys(servers: QueueServers) -> RedisKeys:
    return RedisKeys(prefix_of_keys(servers.url, f"test-{uuid4().hex}"))


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
