"""Idempotency-Keys of all partitions. A key is in the partition of its job, so that one step commits both."""

from __future__ import annotations

from service.queue.idempotency import Claim, Earlier, IdempotencyKeys, key_name
from service.queue.job_reader import JobReader
from service.queue.partitions import PerPartition, job_id_in


class Claims:
    """Claims keys in the partitions where every process finds them. Methods raise QueueUnavailable."""

    def __init__(self, keys: PerPartition[IdempotencyKeys], jobs: PerPartition[JobReader]) -> None:
        self._keys = keys
        self._jobs = jobs

    async def claim(self, key: str, owner: str) -> Claim | Earlier:
        """Claim the key for a new job, or return the job that has it. Raises IdempotencyInProgress."""
        number = self._keys.home_number(key_name(owner, key))
        keys, job_id = self._keys[number], job_id_in(number, len(self._keys))
        found = await keys.claim(key, job_id, owner)
        if isinstance(found, Earlier) and self._keys.of(found.job_id) is not keys:
            # The result cache has led it to a job of another partition, whose end the script cannot see.
            if await self._jobs.of(found.job_id).deleted(found.job_id):
                await keys.free(key, owner, found)
                return await keys.claim(key, job_id, owner)
        return found

    async def lead(self, claim: Claim, job_id: str, fingerprint: str) -> None:
        """Let a claimed key lead to a job that was there before."""
        await self._keys.of(claim.job_id).lead(claim, job_id, fingerprint)

    async def renew(self, partition: int, claims: list[Claim]) -> None:
        """Prolong the claims of requests that continue, all of one partition."""
        await self._keys[partition].renew(claims)

    async def release(self, claim: Claim) -> None:
        """Release the key of a request that has failed; does nothing where its job was accepted."""
        await self._keys.of(claim.job_id).release(claim)
