"""What the lines of a batch came to, as lines of JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from service.api.batches.line import failed
from service.contracts import told
from service.errors import InternalError, QueueUnavailable, VidtrError
from service.queue.batch_facts import EndedLine
from service.queue.batch_store import BatchStore
from service.queue.job_store import JobStore
from service.queue.partitions import PerPartition
from service.wire import BatchResult

# Results of long videos are large: so many are in memory at a time.
AT_ONCE = 10


class BatchResults:
    """Reads results where they are: with the job of each line."""

    def __init__(self, jobs: PerPartition[JobStore]) -> None:
        self._jobs = jobs

    async def lines(self, store: BatchStore, batch_id: str, after: int, limit: int) -> AsyncIterator[bytes]:
        """JSON of each of up to `limit` lines that ended after the first `after`. Raises QueueUnavailable."""
        while limit > 0:
            found = await store.ended(batch_id, after, min(limit, AT_ONCE))
            if not found:
                return
            results = await asyncio.gather(*map(self._result, found))
            yield b"".join(told(one, one.result).encode() + b"\n" for one in results)
            after, limit = after + len(found), limit - len(found)

    async def _result(self, ended: EndedLine) -> BatchResult:
        line, outcome = ended.line, ended.outcome
        said = BatchResult(
            seq=ended.seq,
            line=line.line,
            id=line.id,
            url=line.url,
            status=outcome.status,
            job=outcome.job,
            error=outcome.error,
        )
        if outcome.status != "succeeded" or outcome.job is None:
            return said
        return await self._with_result(said, outcome.job)

    async def _with_result(self, said: BatchResult, job: str) -> BatchResult:
        try:
            status = await self._jobs.of(job).status(job)
        except QueueUnavailable:
            raise
        except VidtrError as error:
            return said.model_copy(update={"error": failed(error).error})
        if status.result is None:
            lost = InternalError(f"Job {job} has no result: it is {status.status}.")
            return said.model_copy(update={"error": failed(lost).error})
        return said.model_copy(update={"result": status.result})
