from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from service.inference.torchscript import TorchScriptBackend, TorchScriptConfig
from service.queue.job_store import JobStore
from service.queue.redis_keys import RedisKeys
from tests.fixtures.tiny_models import write_repository
from tests.integration.worker.rig import Rig


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[TorchScriptBackend]:
    backend = TorchScriptBackend(TorchScriptConfig(write_repository(tmp_path), threads=1))
    await backend.start()
    yield backend
    await backend.close()


@pytest.fixture
async def rig(redis: Redis, keys: RedisKeys, store: JobStore, backend: TorchScriptBackend) -> Rig:
    return Rig(redis, keys, store, backend)
