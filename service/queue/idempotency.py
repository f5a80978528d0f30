"""Idempotency keys: the first request with a key owns it, the later ones get its job."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from service.errors import IdempotencyInProgress
from service.queue.connection import translate_redis_errors
from service.queue.redis_keys import RedisKeys

# A key that leads to a deleted job is free: it may have been given the result of a job of another key. Its own token is
# there where the first answer was lost and the client asked again.
# KEYS: key. ARGV: token, its life in ms, what keys of jobs begin with.
CLAIM = """
local value = redis.call('GET', KEYS[1])
local job = value and value:match('^{"job": "(%w+)"')
local deleted = job and redis.call('HGET', ARGV[3] .. job, 'finished') == 'cancelled'
if value and value ~= ARGV[1] and not deleted then return value end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
"""
RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"
LEAD = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) end"
RENEW = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('EXPIRE', KEYS[1], ARGV[2]) end"


@dataclass(frozen=True)
class IdempotencyTimes:
    """Life of a key once its job is accepted, and of the claim of a request that is still uploading, in seconds."""

    idempotency_ttl_s: int
    reservation_ttl_s: float


@dataclass(frozen=True)
class Claim:
    """A key that one request owns until its job is accepted; then the key leads to the job."""

    key: str
    """Redis key"""
    token: str
    """its value while the request is under way"""

    def accepted(self, job_id: str, fingerprint: str) -> str:
        """Its value once the job is accepted."""
        return json.dumps({"job": job_id, "fingerprint": fingerprint})


@dataclass(frozen=True)
class Earlier:
    """The job that an earlier request with the same key has made."""

    job_id: str
    fingerprint: str


class IdempotencyKeys:
    """Keys of one installation. Methods raise QueueUnavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, keys: RedisKeys, times: IdempotencyTimes) -> None:
        self._keys = keys
        self._times = times
        self._claim = redis.register_script(CLAIM)
        self._release = redis.register_script(RELEASE)
        self._lead = redis.register_script(LEAD)
        self._renew = redis.register_script(RENEW)

    async def claim(self, key: str, job_id: str, owner: str = "") -> Claim | Earlier:
        """Own the key for `job_id`, or learn whose it is. Each owner has keys of its own.

        Raises IdempotencyInProgress while the request that owns it is uploading or decoding.
        """
        # A line feed stands in no Idempotency-Key: what one caller sends never reads like another's.
        name = f"{owner}\n{key}" if owner else key
        claim = Claim(self._keys.idempotency(hashlib.sha256(name.encode()).hexdigest()), f"open:{job_id}")
        with translate_redis_errors():
            value: Any = await self._claim(
                keys=[claim.key],
                args=[claim.token, int(self._times.reservation_ttl_s * 1000), self._keys.job("")],
            )
        if value is None:
            return claim
        if value.startswith(b"open:"):
            detail = "A request with this Idempotency-Key is still uploading or decoding. Try again later."
            raise IdempotencyInProgress(detail, retry_after_s=2.0)
        body: Any = json.loads(value)
        return Earlier(body["job"], body["fingerprint"])

    async def lead(self, claim: Claim, job_id: str, fingerprint: str) -> None:
        """Let an owned key lead to a job that was there before."""
        with translate_redis_errors():
            await self._lead(
                keys=[claim.key],
                args=[claim.token, claim.accepted(job_id, fingerprint), self._times.idempotency_ttl_s],
            )

    async def release(self, claim: Claim) -> None:
        """Let go of a key whose request has failed; harmless when its job was accepted."""
        with translate_redis_errors():
            await self._release(keys=[claim.key], args=[claim.token])

    async def renew(self, claims: Iterable[Claim]) -> None:
        """Keep the keys of requests that go on."""
        for claim in claims:
            with translate_redis_errors():
                await self._renew(keys=[claim.key], args=[claim.token, int(self._times.reservation_ttl_s) or 1])
