"""The result cache: the same bytes with the same options lead to the job that has scored them before."""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import Any

from service.contracts import JobStatus, ModelSpec
from service.errors import JobDeleted, QueueUnavailable, ResultExpired, UnknownJob
from service.queue.connection import translate_redis_errors
from service.queue.job_store import JobStore
from service.queue.partitions import Partition, PerPartition
from service.queue.redis_keys import CACHE_KEY_ELSEWHERE_FIELD
from service.queue.scripts import Script


class ResultCache:
    """Holds the ids of jobs, never results: a job that was erased or has expired is not found any more.

    An entry has its place by what was uploaded, and the job by other rules: they may be in two partitions.
    """

    def __init__(self, partitions: PerPartition[Partition], stores: PerPartition[JobStore], life_s: int) -> None:
        """An entry lives `life_s` seconds, which need not be longer than results live; 0 turns the cache off."""
        self._partitions = partitions
        self._stores = stores
        self._life_s = life_s
        self._delete = partitions.map(lambda partition: Script(partition.redis, "release_key"))

    @property
    def on(self) -> bool:
        """Whether there is a cache."""
        return self._life_s > 0

    def key(self, owner: str, spec: ModelSpec, fingerprint: str) -> str:
        """The cache key of an upload. Each owner has entries of its own: no caller learns what another has sent.

        An answer says which labels pass, so that it is good for the thresholds it was made with and no others, and its
        scores are those of one arithmetic.
        """
        thresholds = [json.dumps(spec.thresholds)] if spec.thresholds else []
        arithmetic = [spec.arithmetic] if spec.arithmetic else []
        text = "\n".join((owner, spec.name, spec.version, spec.weights_sha256, fingerprint, *thresholds, *arithmetic))
        digest = hashlib.sha256(text.encode()).hexdigest()
        return self._partitions.home(digest).keys.result_cache(digest)

    async def find(self, key: str) -> JobStatus | None:
        """The job with the result of such an upload, if there is one, and Redis can be reached where they are."""
        try:
            with translate_redis_errors():
                job: Any = await self._partitions.home(_digest(key)).redis.get(key)
            if job is None:
                return None
            status = await self._stores.of(job.decode()).status(job.decode())
        except (JobDeleted, QueueUnavailable, ResultExpired, UnknownJob):
            return None
        return status if status.result is not None else None

    async def remember(self, key: str, job_id: str) -> None:
        """Lead such uploads to this job from now on. Raises QueueUnavailable when Redis cannot be reached."""
        with translate_redis_errors():
            await self._partitions.home(_digest(key)).redis.set(key, job_id, ex=self._life_s)

    async def forget(self, job_id: str) -> None:
        """Delete the entry of a job that is about to be erased, where it is in another partition.

        In the job's own partition it is deleted in one step with the job. An entry that cannot be reached leads to an
        erased job until its life is over: to nothing. Raises QueueUnavailable when the job's partition is away.
        """
        if len(self._partitions) == 1:
            return
        of_job = self._partitions.of(job_id)
        with translate_redis_errors():
            found: Any = await of_job.redis.hget(of_job.keys.job(job_id), CACHE_KEY_ELSEWHERE_FIELD)
        if found is None:
            return
        key = found.decode()
        with contextlib.suppress(QueueUnavailable), translate_redis_errors():
            await self._delete.home(_digest(key))(keys={"key": key}, args={"token": job_id})


def _digest(key: str) -> str:
    return key.rpartition(":")[2]
