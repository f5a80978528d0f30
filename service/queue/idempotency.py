"""Idempotency keys: the first request with a key owns it, later ones get its job."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from service.errors import IdempotencyInProgress
from service.queue.connection import translate_redis_errors
from service.queue.redis_keys import KeyPrefixes, RedisKeys
from service.queue.scripts import Script

_OPEN = "open:"


@dataclass(frozen=True)
class IdempotencyConfig:
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

    @property
    def job_id(self) -> str:
        """The job that the request is to make."""
        return self.token.removeprefix(_OPEN)

    def accepted(self, job_id: str, fingerprint: str) -> str:
        """Its value once the job is accepted."""
        return json.dumps({"job": job_id, "fingerprint": fingerprint})


@dataclass(frozen=True)
class Earlier:
    """The job that an earlier request with the same key has made."""

    job_id: str
    fingerprint: str


def key_name(owner: str, key: str) -> str:
    """The name of an owner's key among those of all owners."""
    # No Idempotency-Key contains a line feed, so the names of two owners never collide.
    return f"{owner}\n{key}" if owner else key


class IdempotencyKeys:
    """Keys of one installation. Methods raise QueueUnavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, keys: RedisKeys, times: IdempotencyConfig) -> None:
        self._keys = keys
        self._prefixes = KeyPrefixes(keys)
        self._times = times
        self._claim = Script(redis, "claim_key")
        self._release = Script(redis, "release_key")
        self._lead = Script(redis, "lead_key")
        self._renew = Script(redis, "renew_keys")

    async def claim(self, key: str, job_id: str, owner: str = "") -> Claim | Earlier:
        """Claim the key for `job_id`, or return the job that has it. Each owner has keys of its own.

        Raises IdempotencyInProgress while the request that owns it is uploading or decoding.
        """
        claim = Claim(self._key(owner, key), f"{_OPEN}{job_id}")
        with translate_redis_errors():
            value: Any = await self._claim(
                keys={"key": claim.key},
                args={
                    "token": claim.token,
                    "life_ms": int(self._times.reservation_ttl_s * 1000),
                    "job_prefix": self._prefixes.job,
                },
            )
        if value is None:
            return claim
        if value.startswith(_OPEN.encode()):
            detail = "A request with this Idempotency-Key is still uploading or decoding. Try again later."
            raise IdempotencyInProgress(detail, retry_after_s=2.0)
        body: Any = json.loads(value)
        return Earlier(body["job"], body["fingerprint"])

    async def free(self, key: str, owner: str, earlier: Earlier) -> None:
        """Delete a key that leads to a job in another partition which was deleted there."""
        held = Claim(self._key(owner, key), "").accepted(earlier.job_id, earlier.fingerprint)
        with translate_redis_errors():
            await self._release(keys={"key": self._key(owner, key)}, args={"token": held})

    async def lead(self, claim: Claim, job_id: str, fingerprint: str) -> None:
        """Let an owned key lead to a job that was there before."""
        with translate_redis_errors():
            await self._lead(
                keys={"key": claim.key},
                args={
                    "token": claim.token,
                    "value": claim.accepted(job_id, fingerprint),
                    "life": self._times.idempotency_ttl_s,
                },
            )

    async def release(self, claim: Claim) -> None:
        """Release a key whose request has failed; does nothing where its job was accepted."""
        with translate_redis_errors():
            await self._release(keys={"key": claim.key}, args={"token": claim.token})

    def _key(self, owner: str, key: str) -> str:
        return self._keys.idempotency(hashlib.sha256(key_name(owner, key).encode()).hexdigest())

    async def renew(self, claims: Iterable[Claim]) -> None:
        """Prolong the claims of requests that continue, and claim those again that lapsed and no other request has."""
        tokens = {claim.key: claim.token for claim in claims}
        if tokens:
            life_s = int(self._times.reservation_ttl_s) or 1
            with translate_redis_errors():
                await self._renew(keys={"claims": [*tokens]}, args={"life": life_s, "tokens": [*tokens.values()]})
