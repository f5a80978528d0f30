"""Waits until Redis has an accepted job on disk, where the server can tell."""

from __future__ import annotations

from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from service.errors import RETRY_AFTER_S, QueueUnavailable
from service.queue.connection import translate_redis_errors
from service.queue.redis_keys import RedisKeys
from service.queue.scripts import Script

PROBE_MS = 1


@dataclass(frozen=True)
class DurabilityConfig:
    """Field names equal those of `service.settings.Settings`."""

    redis_waitaof_s: float


class Durability:
    """Waits until jobs are on disk. Methods raise QueueUnavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, keys: RedisKeys, config: DurabilityConfig) -> None:
        """The wait of `config` must be shorter than the socket timeout of `redis`."""
        self._redis = redis
        self._keys = keys
        self._wait_s = config.redis_waitaof_s
        self._touch = Script(redis, "touch_job")

    async def unavailable_reason(self) -> str | None:
        """Why `wait_persisted` cannot wait; None where it does."""
        if self._wait_s == 0:
            return "redis_waitaof_s is 0"
        with translate_redis_errors():
            try:
                await self._redis.execute_command("WAITAOF", 1, 0, PROBE_MS)  # type: ignore[no-untyped-call]
            except ResponseError as error:
                return _reason(error)
        return None

    async def wait_persisted(self, job_id: str) -> None:
        """Return once the job is known to be on disk; at once where the server cannot tell.

        Raises QueueUnavailable where it is not within the time for it, or was lost with a crash of the server.
        """
        if self._wait_s == 0:
            return
        with translate_redis_errors():
            pipe = self._redis.pipeline(transaction=False)
            await self._touch(keys={"job": self._keys.job(job_id)}, args={}, client=pipe)
            pipe.execute_command("WAITAOF", 1, 0, int(self._wait_s * 1000))
            there, synced = await pipe.execute(raise_on_error=False)
            if isinstance(there, Exception):
                raise there
        if not there:
            raise QueueUnavailable("Redis has lost the job. Send it again.", retry_after_s=RETRY_AFTER_S)
        if not isinstance(synced, ResponseError) and synced[0] < 1:
            detail = f"Redis did not write the job to disk within {self._wait_s:g} s. Try again later."
            raise QueueUnavailable(detail, limit=self._wait_s, retry_after_s=RETRY_AFTER_S)


def _reason(error: ResponseError) -> str:
    if isinstance(error, NoPermissionError):
        return "the user of redis_url may not run WAITAOF"
    if "unknown command" in str(error):
        return "this Redis has no WAITAOF, which came with 7.2"
    if "appendonly is disabled" in str(error):
        return "this Redis keeps no append-only file"
    return str(error)
