"""Waits until Redis has an accepted job where it is safe: on disk, and on as many replicas as the settings ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from service.errors import RETRY_AFTER_S, QueueUnavailable
from service.queue.connection import doubt, translate_redis_errors
from service.queue.redis_keys import RedisKeys
from service.queue.scripts import Script

# Replicas that are well have acknowledged long ago; on an idle one it takes a round trip.
PROBE_MS = 500


@dataclass(frozen=True)
class DurabilityConfig:
    """Field names equal those of `service.settings.Settings`."""

    redis_waitaof_s: float
    redis_wait_replicas: int = 0
    redis_durability: Literal["best_effort", "require"] = "best_effort"


class Durability:
    """Waits until jobs are safe. Methods raise QueueUnavailable when Redis cannot be reached.

    A job is safe on the disk of its server, and of `redis_wait_replicas` replicas. A server without an append-only file
    keeps it in the memory of so many replicas. Where the server can do neither, a job is promised without; with
    `redis_durability` `require` it is not.

    Attributes:
        required: whether a job that is not known to be safe may not be promised.
    """

    def __init__(self, redis: Redis, keys: RedisKeys, config: DurabilityConfig) -> None:
        """The wait of `config` must be shorter than the socket timeout of `redis`."""
        self._redis = redis
        self._keys = keys
        self._wait_s = config.redis_waitaof_s
        self._replicas = config.redis_wait_replicas
        self.required = config.redis_durability == "require"
        self._touch = Script(redis, "touch_job")

    async def unavailable_reason(self) -> str | None:
        """Why `wait_persisted` cannot know that a job is safe; None where it can."""
        if self._wait_s == 0:
            return "redis_waitaof_s is 0"
        with translate_redis_errors():
            safe = await self._asked("WAITAOF", 1, self._replicas, PROBE_MS)
            if isinstance(safe, ResponseError):
                if not self._replicas:
                    return _reason(safe)
                safe = [0, await self._asked("WAIT", self._replicas, PROBE_MS)]
                if isinstance(safe[1], ResponseError):
                    return _reason(safe[1])
        if safe[1] < self._replicas:
            return f"{safe[1]} of {self._replicas} replicas acknowledge writes"
        return None

    async def wait_persisted(self, job_id: str) -> None:
        """Return once the job is known to be safe; at once where the server cannot tell and that is not required.

        Raises QueueUnavailable where it is not within the time for it, or was lost with a crash of the server.
        """
        await self._wait(self._keys.job(job_id))

    async def wait_batch_persisted(self, batch_id: str) -> None:
        """The same for a batch."""
        await self._wait(self._keys.batch(batch_id))

    async def _wait(self, key: str) -> None:
        if self._wait_s == 0:
            return
        wait_ms = int(self._wait_s * 1000)
        with translate_redis_errors():
            safe = await self._after_touch(key, "WAITAOF", 1, self._replicas, wait_ms)
            if isinstance(safe, ResponseError):
                if self._replicas:
                    safe = [1, await self._after_touch(key, "WAIT", self._replicas, wait_ms)]
                elif self.required:
                    raise _unsafe(_reason(safe))
                else:
                    return
        local, replicas = safe
        if isinstance(replicas, ResponseError):
            raise _unsafe(_reason(replicas))
        if replicas < self._replicas:
            # Its replicas may have left it for another primary.
            await doubt(self._redis)
            detail = (
                f"Redis has the job on {replicas} of {self._replicas} replicas after {self._wait_s:g} s."
                " Try again later."
            )
            raise QueueUnavailable(detail, limit=self._replicas, retry_after_s=RETRY_AFTER_S)
        if local < 1:
            detail = f"Redis did not write the job to disk within {self._wait_s:g} s. Try again later."
            raise QueueUnavailable(detail, limit=self._wait_s, retry_after_s=RETRY_AFTER_S)

    async def _after_touch(self, key: str, *wait: Any) -> Any:
        """The reply to a wait, or the error with which the server refuses to wait. Raises where the job is gone."""
        pipe: Any = self._redis.pipeline(transaction=False)
        await self._touch(keys={"job": key}, args={}, client=pipe)
        pipe.execute_command(*wait)
        if self._replicas:
            # A server that was demoted meanwhile has the job only until it follows the new primary.
            pipe.execute_command("HELLO")
        there, safe, *_ = await pipe.execute(raise_on_error=False)
        if isinstance(there, Exception):
            raise there
        if not there:
            raise QueueUnavailable("Redis has lost the job. Send it again.", retry_after_s=RETRY_AFTER_S)
        return safe

    async def _asked(self, *command: Any) -> Any:
        try:
            return await self._redis.execute_command(*command)
        except ResponseError as error:
            return error


def _unsafe(reason: str) -> QueueUnavailable:
    return QueueUnavailable(f"Redis cannot promise to keep the job: {reason}.", retry_after_s=RETRY_AFTER_S)


def _reason(error: ResponseError) -> str:
    if isinstance(error, NoPermissionError):
        return f"the user of redis_url may not run {'WAITAOF' if 'waitaof' in str(error).lower() else 'WAIT'}"
    if "unknown command" in str(error):
        return "this Redis has no WAITAOF, which came with 7.2"
    if "appendonly is disabled" in str(error):
        return "this Redis keeps no append-only file"
    return str(error)
