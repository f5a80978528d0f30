"""The result cache: the same bytes with the same options lead to the job that has scored them before."""

from __future__ import annotations

import hashlib
from typing import Any

from redis.asyncio import Redis

from service.contracts import JobStatus, ModelSpec
from service.errors import JobDeleted, ResultExpired, UnknownJob
from service.queue.connection import translate_redis_errors
from service.queue.job_store import JobStore
from service.queue.redis_keys import RedisKeys


class ResultCache:
    """Holds the ids of jobs, never results: a job that was erased or has expired is not found any more.

    Methods raise QueueUnavailable when Redis cannot be reached.
    """

    def __init__(self, redis: Redis, keys: RedisKeys, store: JobStore, life_s: int) -> None:
        """An entry lives `life_s` seconds, which need not be longer than results live; 0 turns the cache off."""
        self._redis = redis
        self._keys = keys
        self._store = store
        self._life_s = life_s

    @property
    def on(self) -> bool:
        """Whether there is a cache."""
        return self._life_s > 0

    def key(self, owner: str, spec: ModelSpec, fingerprint: str) -> str:
        """The cache key of an upload. Each owner has entries of its own: no caller learns what another has sent."""
        text = "\n".join((owner, spec.name, spec.version, spec.weights_sha256, fingerprint))
        return self._keys.result_cache(hashlib.sha256(text.encode()).hexdigest())

    async def find(self, key: str) -> JobStatus | None:
        """The job with the result of such an upload, if there is one."""
        with translate_redis_errors():
            job: Any = await self._redis.get(key)
        if job is None:
            return None
        try:
            status = await self._store.status(job.decode())
        except (JobDeleted, ResultExpired, UnknownJob):
            return None
        return status if status.result is not None else None

    async def remember(self, key: str, job_id: str) -> None:
        """Lead such uploads to this job from now on."""
        with translate_redis_errors():
            await self._redis.set(key, job_id, ex=self._life_s)
