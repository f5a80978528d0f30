"""The clip stream as a worker sees it: read what waits, fetch payloads, acknowledge, take over lost work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from service.queue.connection import reported
from service.queue.keys import GROUP, Keys

# An idle time no lease reaches: an entry given back with it is taken over by whoever looks next.
GIVEN_BACK_MS = 3_600_000


@dataclass(frozen=True)
class ClipEntry:
    """One stream entry: which clip to score, and until when. Times are Unix seconds."""

    entry_id: str
    model: str
    version: str
    job_id: str
    clip: int
    shape: tuple[int, ...]
    enqueued_at: float
    deadline_at: float
    deliveries: int = 1


class ClipStream:
    """The consumer side of the queue for one worker. Methods raise QueueUnavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, keys: Keys, consumer: str) -> None:
        self._redis = redis
        self._keys = keys
        self._consumer = consumer

    async def join(self, models: Sequence[str]) -> None:
        """Create the consumer group of each model's stream where it is missing. Entries older than it are served."""
        with reported():
            for model in models:
                try:
                    await self._redis.xgroup_create(self._keys.clips(model), GROUP, id="0", mkstream=True)
                except ResponseError as error:
                    if not str(error).startswith("BUSYGROUP"):
                        raise

    async def read(self, models: Sequence[str], count: int, block_ms: int) -> list[ClipEntry]:
        """Up to `count` new entries per model; waits at most `block_ms` for the first one, never for more."""
        streams: dict[Any, Any] = {self._keys.clips(model): ">" for model in models}
        with reported():
            try:
                reply: Any = await self._redis.xreadgroup(GROUP, self._consumer, streams, count=count, block=block_ms)
            except ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                await self.join(models)
                return []
        by_key = {self._keys.clips(model): model for model in models}
        return [
            _entry(by_key[key.decode()], entry_id, fields)
            for key, entries in reply or []
            for entry_id, fields in entries
            if fields
        ]

    async def reclaim(self, model: str, lease_s: float, count: int) -> list[ClipEntry]:
        """Take over up to `count` entries that another worker has left unfinished for `lease_s`."""
        key = self._keys.clips(model)
        with reported():
            reply = await self._redis.xautoclaim(
                key, GROUP, self._consumer, min_idle_time=int(lease_s * 1000), count=count
            )
            claimed = [(entry_id, fields) for entry_id, fields in reply[1] if fields]
            if not claimed:
                return []
            pending = await self._redis.xpending_range(
                key, GROUP, min=claimed[0][0], max=claimed[-1][0], count=1000, consumername=self._consumer
            )
        deliveries = {row["message_id"]: int(row["times_delivered"]) for row in pending}
        return [_entry(model, i, fields, deliveries.get(i, 1)) for i, fields in claimed]

    async def payloads(self, entries: Sequence[ClipEntry]) -> list[bytes | None]:
        """Raw bytes of each entry's clip, in order; None where the payload is gone."""
        with reported():
            found: Any = await self._redis.mget([self._keys.payload(entry.job_id, entry.clip) for entry in entries])
        return list(found)

    async def ack(self, entries: Sequence[ClipEntry]) -> None:
        """Remove finished entries and free their payloads; XACK alone would free neither."""
        if not entries:
            return
        with reported():
            pipe = self._redis.pipeline(transaction=True)
            for model, ids in _ids_by_model(entries).items():
                pipe.xack(self._keys.clips(model), GROUP, *ids)
                pipe.xdel(self._keys.clips(model), *ids)
            pipe.unlink(*(self._keys.payload(entry.job_id, entry.clip) for entry in entries))
            await pipe.execute()

    async def give_back(self, entries: Sequence[ClipEntry]) -> None:
        """Let another worker take these entries at once instead of after the lease."""
        with reported():
            for model, ids in _ids_by_model(entries).items():
                await self._redis.xclaim(
                    self._keys.clips(model),
                    GROUP,
                    self._consumer,
                    min_idle_time=0,
                    message_ids=ids,
                    idle=GIVEN_BACK_MS,
                    justid=True,
                )

    async def leave(self, models: Sequence[str]) -> None:
        """Delete this worker's consumer where it holds nothing; deleting one that does would lose its entries."""
        with reported():
            for model in models:
                key = self._keys.clips(model)
                held = await self._redis.xpending_range(
                    key, GROUP, min="-", max="+", count=1, consumername=self._consumer
                )
                if not held:
                    await self._redis.xgroup_delconsumer(key, GROUP, self._consumer)


def _ids_by_model(entries: Sequence[ClipEntry]) -> dict[str, list[Any]]:
    ids: dict[str, list[Any]] = {}
    for entry in entries:
        ids.setdefault(entry.model, []).append(entry.entry_id)
    return ids


def _entry(model: str, entry_id: bytes, fields: dict[bytes, bytes], deliveries: int = 1) -> ClipEntry:
    return ClipEntry(
        entry_id=entry_id.decode(),
        model=model,
        version=fields[b"version"].decode(),
        job_id=fields[b"job"].decode(),
        clip=int(fields[b"clip"]),
        shape=tuple(int(n) for n in fields[b"shape"].split(b",")),
        enqueued_at=float(fields[b"enqueued_at"]),
        deadline_at=float(fields[b"deadline_at"]),
        deliveries=deliveries,
    )
