"""The clip streams as a worker sees them: take entries, fetch payloads, renew leases, reclaim lost work."""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from service.contracts import JobClass, JobRecord, ModelSpec
from service.queue.clip_entries import ClipEntry, ClipState, Delivery, entry_of, pairs, state_of
from service.queue.connection import run_all, translate_redis_errors
from service.queue.lead import Lead
from service.queue.redis_keys import GROUP, KeyPrefixes, RedisKeys
from service.queue.scripts import Call, Script

# An idle time that no lease reaches: an entry that is given back with it goes to the next worker that looks.
NACKED_MS = 3_600_000
# Larger clips are fetched by a command of their own: a script would copy them once more.
INLINE_BYTES = 1 << 20


class ClipStream:
    """The consumer side of the queue for one worker. Methods raise QueueUnavailable when Redis cannot be reached.

    Attributes:
        lead: whether this worker is one of the few that wait at the streams.
    """

    def __init__(self, redis: Redis, keys: RedisKeys, consumer: str) -> None:
        self._redis = redis
        self._keys = keys
        self._prefixes = KeyPrefixes(keys)
        self.consumer = consumer
        self.lead = Lead(redis, keys, consumer)
        self._take = Script(redis, "take")
        self._look_up = Script(redis, "look_up")
        self._claim = Script(redis, "reclaim")
        self._renew_lease = Script(redis, "renew_lease")
        self._dismiss = Script(redis, "dismiss")
        self._leave = Script(redis, "leave_group")

    def _streams(self, routes: Iterable[str]) -> dict[str, tuple[str, JobClass]]:
        return {self._keys.clips(route, job_class): (route, job_class) for route in routes for job_class in JobClass}

    async def join(self, routes: Iterable[str]) -> None:
        """Create the consumer group of each route's streams where it is missing. Entries older than it are served."""
        with translate_redis_errors():
            for key in self._streams(routes):
                try:
                    await self._redis.xgroup_create(key, GROUP, id="0", mkstream=True)
                except ResponseError as error:
                    if not str(error).startswith("BUSYGROUP"):
                        raise

    async def read(self, routes: Sequence[str], count: int, block_ms: int) -> list[ClipEntry]:
        """Up to `count` new entries per route and class; waits at most `block_ms` for the first, never for more."""
        streams = self._streams(routes)
        wanted: dict[Any, Any] = dict.fromkeys(streams, ">")
        with translate_redis_errors():
            try:
                reply: Any = await self._redis.xreadgroup(GROUP, self.consumer, wanted, count=count, block=block_ms)
            except ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                await self.join(routes)
                return []
        return [
            entry_of(*streams[key.decode()], entry_id, fields)
            for key, entries in reply or []
            for entry_id, fields in entries
            if fields
        ]

    async def wait(self, routes: Sequence[str], count: int, block_ms: int) -> list[ClipEntry]:
        """`read` of the routes that this worker leads.

        One that leads none gets nothing and is to look for entries by itself: another has found work, or time is up.
        """
        if led := await self.lead.take(routes, block_ms):
            return await self.read(led, count, block_ms)
        await self.lead.follow(block_ms)
        return []

    async def take(self, order: Sequence[tuple[JobClass, str, int]]) -> Delivery:
        """New entries of the first of these classes and routes where any wait, at most so many; without waiting."""
        keys = self._keys
        with translate_redis_errors():
            try:
                reply: Any = await self._take(
                    keys={"streams": [keys.clips(route, job_class) for job_class, route, _ in order]},
                    args={
                        "group": GROUP,
                        "consumer": self.consumer,
                        "max_bytes": INLINE_BYTES,
                        "job_prefix": self._prefixes.job,
                        "scores_prefix": self._prefixes.scores,
                        "clip_prefix": self._prefixes.clip,
                        "counts": [count for *_, count in order],
                    },
                )
            except ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
                await self.join({route for _, route, _ in order})
                return Delivery([])
        if not reply:
            return Delivery([])
        number, found, facts = reply
        job_class, route, _ = order[number - 1]
        entries = [entry_of(route, job_class, entry_id, pairs(fields)) for entry_id, fields in found]
        return Delivery(entries, {entry: state_of(*of) for entry, of in zip(entries, facts or (), strict=False)})

    async def reclaim(
        self, route: str, lease_s: float, count: int, served: Iterable[ModelSpec] = (), *, idle: bool = False
    ) -> list[ClipEntry]:
        """Take over entries whose lease of `lease_s` has ended, or that were given back.

        Up to `count` that were given back without a failure, or one that its worker lost. With `served`, only entries
        that these models can score, or whose job has ended: the route of a name has clips of all versions. `idle` says
        that this worker knows of no entry that it holds: those that Redis counts as its own were in a reply that was
        lost, and are delivered again.
        """
        for job_class in JobClass:
            with translate_redis_errors():
                try:
                    found = await self._claim(
                        keys={
                            "stream": self._keys.clips(route, job_class),
                            "looked_through": self._keys.looked_through(route, job_class),
                        },
                        args={
                            "group": GROUP,
                            "consumer": self.consumer,
                            "lease_ms": int(lease_s * 1000),
                            "unknown_ms": NACKED_MS if idle else 0,
                            "count": count,
                            "job_prefix": self._prefixes.job,
                            "served": [f"{spec.version}:{spec.weights_sha256}" for spec in served],
                        },
                    )
                except ResponseError as error:
                    if "NOGROUP" not in str(error):
                        raise
                    await self.join([route])
                    continue
            if found:
                return [
                    entry_of(route, job_class, entry_id, pairs(fields), int(deliveries))
                    for entry_id, deliveries, fields in found
                ]
        return []

    async def renew(self, entries: Iterable[ClipEntry]) -> set[ClipEntry]:
        """Begin the leases of these entries anew; returns those that this worker still holds."""
        return await self._renew(entries, idle_ms=0, uncounted=0)

    async def nack(self, entries: Iterable[ClipEntry], *, failed: bool = False) -> None:
        """Let another worker take these entries at once instead of after the lease.

        With `failed` this delivery counts towards the limit of deliveries, and the clip is delivered alone next time.
        """
        await self._renew(entries, idle_ms=NACKED_MS, uncounted=0 if failed else 1)

    async def _renew(self, entries: Iterable[ClipEntry], idle_ms: int, uncounted: int) -> set[ClipEntry]:
        held: set[ClipEntry] = set()
        for key, group in self._by_stream(entries).items():
            by_id = {entry.entry_id: entry for entry in group}
            with translate_redis_errors():
                ids = await self._renew_lease(
                    keys={"stream": key},
                    args={
                        "group": GROUP,
                        "consumer": self.consumer,
                        "idle_ms": idle_ms,
                        "ids_and_deliveries": [
                            part for entry in group for part in (entry.entry_id, max(0, entry.deliveries - uncounted))
                        ],
                    },
                )
            held.update(by_id[entry_id.decode()] for entry_id in ids)
        return held

    async def look_up(self, entries: Sequence[ClipEntry]) -> list[ClipState]:
        """Payload and state of each entry's clip, in order."""
        keys = self._keys
        payloads = [keys.payload(entry.job_id, entry.payload) for entry in entries]
        needed = {key: math.prod(entry.shape) for key, entry in zip(payloads, entries, strict=True)}
        inline = len(needed) == len(entries) and sum(needed.values()) <= INLINE_BYTES
        with translate_redis_errors():
            # Before the states: a payload is deleted when its clip is scored or its job ends; the state must show it.
            fetched: dict[str, Any] = (
                {} if inline else dict(zip(needed, await self._redis.mget(list(needed)), strict=True))
            )
            facts = await self._look_up(
                keys={
                    "clips": [
                        key
                        for entry, payload in zip(entries, payloads, strict=True)
                        for key in (keys.job(entry.job_id), keys.scores(entry.job_id), payload)
                    ]
                },
                args={"inline": int(inline), "numbers": [entry.clip for entry in entries]},
            )
        if inline:
            return [state_of(*of) for of in facts]
        return [state_of(fetched[key], *of[1:]) for key, of in zip(payloads, facts, strict=True)]

    async def weights(self, entries: Iterable[ClipEntry]) -> dict[str, str]:
        """SHA-256 of the weights that the jobs of these entries ask for, by the jobs' ids; "" where a job has ended."""
        jobs = sorted({entry.job_id for entry in entries})
        with translate_redis_errors():
            pipe = self._redis.pipeline(transaction=False)
            for job_id in jobs:
                pipe.hget(self._keys.job(job_id), "record")
            records = await pipe.execute()
        return {
            job_id: JobRecord.model_validate_json(record).spec.weights_sha256 if record else ""
            for job_id, record in zip(jobs, records, strict=True)
        }

    async def ack(self, entries: Iterable[ClipEntry]) -> None:
        """Remove entries that are done with, and their payloads unless a replay needs them."""
        keys = self._keys
        calls: list[Call] = []
        for stream, group in self._by_stream(entries).items():
            clips = [
                key
                for entry in group
                for key in (
                    keys.job(entry.job_id),
                    keys.scores(entry.job_id),
                    keys.payload(entry.job_id, entry.payload),
                )
            ]
            calls.append(
                Call(
                    {"stream": stream, "jobs_scores_and_payloads": clips},
                    {"group": GROUP, "entries_and_clips": [part for e in group for part in (e.entry_id, e.clip)]},
                )
            )
        await run_all(self._redis, self._dismiss, calls)

    async def leave(self, routes: Iterable[str]) -> None:
        """Delete this worker's consumer, unless it still holds entries, and let another worker wait in its place."""
        await self.lead.pass_on()
        for key in self._streams(routes):
            await self._delete_consumer(key, self.consumer)

    async def tidy(self, routes: Iterable[str], idle_s: float) -> None:
        """Delete the consumers of lost workers: idle for `idle_s` and without entries."""
        for key in self._streams(routes):
            # Not in a script: as much work as there are consumers, and a script would take ten times as long.
            with translate_redis_errors(), contextlib.suppress(ResponseError):
                consumers: Any = await self._redis.xinfo_consumers(key, GROUP)
                for consumer in consumers:
                    if consumer["idle"] > idle_s * 1000 and not consumer["pending"]:
                        await self._delete_consumer(key, consumer["name"].decode())

    async def _delete_consumer(self, stream: str, name: str) -> None:
        with translate_redis_errors():
            await self._leave(keys={"stream": stream}, args={"group": GROUP, "name": name})

    def _by_stream(self, entries: Iterable[ClipEntry]) -> dict[str, list[ClipEntry]]:
        grouped: defaultdict[str, list[ClipEntry]] = defaultdict(list)
        for entry in entries:
            grouped[self._keys.clips(entry.route, entry.job_class)].append(entry)
        return grouped
