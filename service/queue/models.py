"""The directory of served models: workers announce what they serve, the api plans from what stands here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from redis.asyncio import Redis

from service.contracts import ModelSpec, WorkerStatus
from service.errors import BackendUnavailable, UnknownModel
from service.queue.connection import RETRY_AFTER_S, reported
from service.queue.keys import Keys

# Asked before every upload, so it is one round trip. KEYS: models, workers; what each of their members has said stands
# in a key of its own, whose name goes on from theirs. ARGV: now.
LIVE = """
local function live(index)
  local found = {}
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', index, ARGV[1], '+inf')) do
    local value = redis.call('GET', index .. ':' .. name)
    if value then found[#found + 1] = value end
  end
  return found
end
return {live(KEYS[1]), live(KEYS[2])}
"""


class ModelDirectory:
    """Announced models in Redis. Methods raise QueueUnavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._live = redis.register_script(LIVE)

    async def announce(self, specs: Sequence[ModelSpec], status: WorkerStatus, ttl_s: float) -> None:
        """Say that a live worker serves these models for the next `ttl_s` seconds, and how it does."""
        now = time.time()
        until = now + ttl_s
        with reported():
            pipe = self._redis.pipeline(transaction=True)
            for index in (self._keys.models, self._keys.workers):
                pipe.zremrangebyscore(index, "-inf", now - ttl_s)
            pipe.set(self._keys.worker(status.worker), status.model_dump_json(), px=int(ttl_s * 1000))
            pipe.zadd(self._keys.workers, {status.worker: until})
            for spec in specs:
                pipe.set(self._keys.model(spec.name, spec.version), spec.model_dump_json(), px=int(ttl_s * 1000))
                pipe.zadd(self._keys.models, {f"{spec.name}:{spec.version}": until})
            await pipe.execute()

    async def withdraw(self, worker: str) -> None:
        """Forget a worker that stops; its models stand until their announcement runs out, for its peers."""
        with reported():
            pipe = self._redis.pipeline(transaction=True)
            pipe.zrem(self._keys.workers, worker)
            pipe.delete(self._keys.worker(worker))
            await pipe.execute()

    async def live(self) -> tuple[list[ModelSpec], list[WorkerStatus]]:
        """Every model version that a live worker serves, by name and then newest first; and every live worker."""
        with reported():
            found: Any = await self._live(keys=[self._keys.models, self._keys.workers], args=[time.time()])
        specs = [_spec(data) for data in found[0]]
        specs.sort(key=lambda spec: (spec.name, -int(spec.version)))
        return specs, [WorkerStatus.model_validate_json(data) for data in found[1]]

    async def workers(self) -> list[WorkerStatus]:
        """Every live worker."""
        return (await self.live())[1]

    async def list(self) -> list[ModelSpec]:
        """Every model version that a live worker serves, by name and then newest version first."""
        return (await self.live())[0]

    async def resolve(self, name: str, version: str | None) -> ModelSpec:
        """The named model in the given version, or in its newest.

        Raises BackendUnavailable when no worker serves anything, UnknownModel when none serves this.
        """
        return self.pick(await self.list(), name, version)

    @staticmethod
    def pick(specs: Sequence[ModelSpec], name: str, version: str | None) -> ModelSpec:
        """`resolve` among `specs`, the answer of `list`."""
        if not specs:
            detail = "no worker is serving any model now"
            raise BackendUnavailable(detail, retry_after_s=RETRY_AFTER_S)
        for spec in specs:
            if spec.name == name and version in (None, spec.version):
                return spec
        served = ", ".join(f"{spec.name} version {spec.version}" for spec in specs)
        wanted = f"model {name!r}" if version is None else f"model {name!r} in version {version}"
        detail = f"{wanted} is not served; served now: {served}"
        raise UnknownModel(detail, actual=name)


@lru_cache(maxsize=64)
def _spec(data: bytes) -> ModelSpec:
    """Announcements stay the same from heartbeat to heartbeat, and a large model has hundreds of labels."""
    return ModelSpec.model_validate_json(data)
