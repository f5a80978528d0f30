"""The directory of served models: workers announce what they serve, the api plans from what stands here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from redis.asyncio import Redis

from service.contracts import JobClass, ModelSpec, WorkerStatus
from service.errors import RETRY_AFTER_S, BackendUnavailable, UnknownModel
from service.queue.clip_routes import route_of
from service.queue.clock import NOW, Clock
from service.queue.connection import translate_redis_errors
from service.queue.redis_keys import RedisKeys
from service.queue.stream_scripts import FIELDS

# What is said stands in keys that live as long as it holds. An index has their names; the times in those of workers and
# models are read by earlier releases alone, which compare them with clocks of their own.
# KEYS: workers, models, routes. ARGV: life in ms, number of workers, of models and of routes, then name and value of
# each.
ANNOUNCE = (
    NOW
    + """
local till, at = now + ARGV[1] / 1000, 5
for i, index in ipairs(KEYS) do
  for _ = 1, ARGV[1 + i] do
    redis.call('SET', index .. ':' .. ARGV[at], ARGV[at + 1], 'PX', ARGV[1])
    redis.call('ZADD', index, i == 3 and 0 or till, ARGV[at])
    at = at + 2
  end
end
return time
"""
)

# Asked before every upload, so it is one round trip. The names of routes stay: their streams are still to be cleared.
# KEYS: workers, models, routes.
LIVE = """
local live = {{}, {}, {}, redis.call('TIME')}
for i, index in ipairs(KEYS) do
  for _, name in ipairs(redis.call('ZRANGE', index, 0, -1)) do
    local value = redis.call('GET', index .. ':' .. name)
    if value then
      table.insert(live[i], value)
    elseif i < 3 then
      redis.call('ZREM', index, name)
    end
  end
end
return live
"""

# Ends the streams that nobody reads any more: an entry whose job is over would stay in one for ever.
# KEYS: models, routes. ARGV: what keys of streams and of jobs begin with, most entries of a stream at a time, classes.
CLEAR = (
    FIELDS
    + """
local read = {}
for _, version in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if redis.call('EXISTS', KEYS[1] .. ':' .. version) == 1 then read[version:match('[^:]+')] = true end
end
local function left_of(stream)
  for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', ARGV[3])) do
    if redis.call('HEXISTS', ARGV[2] .. fields_of(entry)['job'], 'record') == 0 then
      redis.call('XDEL', stream, entry[1])
    end
  end
  return redis.call('XLEN', stream)
end
for _, route in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  if redis.call('EXISTS', KEYS[2] .. ':' .. route) == 0 and not read[route] then
    local left = 0
    for i = 4, #ARGV do
      local stream = ARGV[1] .. route .. ':' .. ARGV[i]
      local entries = left_of(stream)
      if entries == 0 then redis.call('UNLINK', stream) end
      left = left + entries
    end
    if left == 0 then redis.call('ZREM', KEYS[2], route) end
  end
end
"""
)
CLEARED_AT_ONCE = 500


class ModelDirectory:
    """Announced models in Redis. Methods raise QueueUnavailable when Redis cannot be reached.

    Attributes:
        clock: measured whenever something is announced or asked, which every process does all the time, and by
            `set_clock` before a process judges anything by it.
    """

    def __init__(self, redis: Redis, keys: RedisKeys) -> None:
        self.clock = Clock()
        self._redis = redis
        self._keys = keys
        self._indexes = [keys.workers, keys.models, keys.routes]
        self._announce = redis.register_script(ANNOUNCE)
        self._live = redis.register_script(LIVE)
        self._clear = redis.register_script(CLEAR)

    async def set_clock(self) -> None:
        """Measure `clock`, unless that was done. A Redis that is out of memory tells the time, but takes no news."""
        if not self.clock.known:
            with translate_redis_errors():
                await self.clock.measured(self._redis.time(), lambda time: time)

    async def announce(self, specs: Sequence[ModelSpec], status: WorkerStatus, ttl_s: float) -> None:
        """Say that a live worker serves these models for the next `ttl_s` seconds, and how it does."""
        by_name = {spec.name: "" for spec in specs}
        by_version = {f"{spec.name}:{spec.version}": spec.model_dump_json(exclude={"route"}) for spec in specs}
        by_route = {
            route: spec.model_copy(update={"route": route}).model_dump_json()
            for route, spec in ((route_of(spec), spec) for spec in specs)
        }
        said = ({status.worker: status.model_dump_json()}, by_version, by_route | by_name)
        with translate_redis_errors():
            announcing = self._announce(
                keys=self._indexes,
                args=[
                    int(ttl_s * 1000),
                    *map(len, said),
                    *(part for values in said for pair in values.items() for part in pair),
                ],
            )
            await self.clock.measured(announcing, lambda time: time)

    async def withdraw(self, worker: str) -> None:
        """Forget a worker that stops; its models stand until their announcement runs out, for its peers."""
        with translate_redis_errors():
            pipe = self._redis.pipeline(transaction=True)
            pipe.zrem(self._keys.workers, worker)
            pipe.delete(self._keys.worker(worker))
            await pipe.execute()

    async def clear(self) -> None:
        """Delete the streams that no live worker reads, once the jobs of all their entries are over."""
        keys = self._keys
        with translate_redis_errors():
            await self._clear(
                keys=[keys.models, keys.routes],
                args=[f"{keys.prefix}:clips:", keys.job(""), CLEARED_AT_ONCE, *JobClass],
            )

    async def live(self) -> tuple[list[ModelSpec], list[WorkerStatus]]:
        """What live workers serve, by name and newest version first; and every live worker.

        Of several weights of one version those that most workers serve come first.
        """
        with translate_redis_errors():
            found: Any = await self.clock.measured(self._live(keys=self._indexes), lambda reply: reply[3])
        workers = [WorkerStatus.model_validate_json(data) for data in found[0]]
        specs = [_spec(data) for data in found[2] if data]
        routes = {spec.route for spec in specs}
        # What only workers of an earlier release serve.
        specs += [spec for spec in map(_spec, found[1]) if route_of(spec) not in routes]
        return _ranked(specs, workers), workers

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
            detail = "No worker serves a model now. Try again later."
            raise BackendUnavailable(detail, retry_after_s=RETRY_AFTER_S)
        for spec in specs:
            if spec.name == name and version in (None, spec.version):
                return spec
        served = ", ".join(dict.fromkeys(f"{spec.name} version {spec.version}" for spec in specs))
        wanted = f"Model {name!r}" if version is None else f"Model {name!r} in version {version}"
        detail = f"{wanted} is not served. Served now: {served}."
        raise UnknownModel(detail, actual=name)


def _ranked(specs: Iterable[ModelSpec], workers: Iterable[WorkerStatus]) -> list[ModelSpec]:
    serving = Counter(route for worker in workers for route in worker.routes)
    return sorted(specs, key=lambda spec: (spec.name, -int(spec.version), -serving[spec.route], spec.weights_sha256))


@lru_cache(maxsize=64)
def _spec(data: bytes) -> ModelSpec:
    """Announcements stay the same from heartbeat to heartbeat, and a large model has hundreds of labels."""
    return ModelSpec.model_validate_json(data)
