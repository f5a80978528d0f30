import pytest
from redis.asyncio import Redis

from service.inference.torchscript import TorchScriptBackend
from service.queue.job_store import JobStore
from service.queue.redis_keys import RedisKeys
from tests.integration.worker.rig import Rig, backend

__all__ = ["backend"]


@pytest.fixture
async def rig(redis: Redis, keys: RedisKeys, store: JobStore, backend: TorchScriptBackend) -> Rig:
    return Rig(redis, keys, store, backend)
