"""Live streams in Redis: what each is, which process holds it, and what was told of it.

A process holds a session while it decodes it, and everything that it writes needs that hold: a process that stood still
and was replaced writes nothing any more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

from redis.asyncio import Redis

from service.contracts import SCHEMA_VERSION
from service.queue.connection import translate_redis_errors
from service.queue.redis_keys import RedisKeys
from service.queue.scripts import Script

Mode = Literal["keep", "take", "steal"]
Held = Literal["ours", "held", "ended", "unknown"]
_READ_AT_ONCE = 200


@dataclass(frozen=True)
class LiveTimes:
    """How long things are kept, in seconds. Field names equal those of `service.settings.Settings`."""

    stream_lease_s: float
    stream_idle_s: float
    stream_keep_s: int


@dataclass(frozen=True)
class LiveState:
    """A live stream as Redis has it.

    Attributes:
        owner: the tenant who began it.
        task: what was asked for, as the api wrote it.
        held_until: Unix seconds until which a process holds it.
        at: Unix seconds at which it was last written.
        ended: why it has ended; empty while it goes on.
        counters: how far it is, by name.
    """

    id: str
    owner: str
    task: dict[str, Any]
    created_at: float
    held_until: float
    at: float
    ended: str
    counters: Mapping[str, float] = field(default_factory=dict)


class LiveStreams:
    """The live streams of one partition. Methods raise QueueUnavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, keys: RedisKeys, times: LiveTimes) -> None:
        self._redis = redis
        self._keys = keys
        self._times = times
        self._hold = Script(redis, "hold_stream")

    async def create(
        self,
        stream_id: str,
        owner: str,
        task: dict[str, Any],
        now: float,
        *,
        pulled: bool,
        webhook: str | None = None,
    ) -> None:
        """Begin a session that no process holds; it is forgotten unless one does within the longest pause.

        Its events are for `webhook` too, if there is one.
        """
        key, life_s = self._keys.live(stream_id), self._life_s()
        fields: dict[Any, Any] = {
            "v": SCHEMA_VERSION,
            "owner": owner,
            "task": json.dumps(task),
            "created_at": now,
            "at": now,
            "holder": "",
            "held_until": 0,
        }
        with translate_redis_errors():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hset(key, mapping=fields)
                pipe.expire(key, life_s)
                if pulled:
                    pipe.zadd(self._keys.pulled, {stream_id: now})
                    pipe.expire(self._keys.pulled, life_s + self._times.stream_keep_s)
                if webhook is not None:
                    of_webhook = self._keys.stream_webhook(stream_id)
                    pipe.hset(of_webhook, mapping={"url": webhook, "owner": owner, "after": "0-0"})
                    pipe.expire(of_webhook, life_s)
                await pipe.execute()

    async def find(self, stream_id: str) -> LiveState | None:
        """A session; None for one that is unknown, or was forgotten."""
        with translate_redis_errors():
            found: Any = await self._redis.hgetall(self._keys.live(stream_id))
        if b"owner" not in found:
            return None
        text = {name.decode(): value.decode() for name, value in found.items()}
        return LiveState(
            id=stream_id,
            owner=text["owner"],
            task=json.loads(text["task"]),
            created_at=float(text["created_at"]),
            held_until=float(text["held_until"]),
            at=float(text["at"]),
            ended=text.get("ended", ""),
            counters={name[2:]: float(value) for name, value in text.items() if name.startswith("n:")},
        )

    async def hold(
        self,
        stream_id: str,
        holder: str,
        mode: Mode,
        *,
        event: dict[str, Any] | None = None,
        counters: Mapping[str, float] | None = None,
        ended: str = "",
        let_go: bool = False,
        most_events: int = 1000,
        call: str = "",
    ) -> tuple[Held, str]:
        """Hold a session for a lease, or go on holding it; whether that is so, and the id of the event.

        Nothing is written unless it is `ours`. `counters` say how far it is; `ended` ends it, with the reason; `let_go`
        lets another process take it from now on. Of several calls with one name `call` the first tells its event.
        """
        fields = [part for name, value in (counters or {}).items() for part in (f"n:{name}", value)]
        if ended:
            fields += ["ended", ended]
        with translate_redis_errors():
            held, event_id = await self._hold(
                keys={
                    "session": self._keys.live(stream_id),
                    "events": self._keys.live_events(stream_id),
                    "webhooks": self._keys.stream_webhooks,
                    "webhook": self._keys.stream_webhook(stream_id),
                },
                args={
                    "id": stream_id,
                    "mode": mode,
                    "holder": holder,
                    "lease_s": 0 if let_go else self._times.stream_lease_s,
                    "life": self._times.stream_keep_s if ended else self._life_s(),
                    "most_events": most_events,
                    "news": self._keys.news(stream_id),
                    # The client repeats it where a connection was lost.
                    "call": call or uuid4().hex,
                    "event": "" if event is None else json.dumps(event),
                    "fields": fields,
                },
            )
            if ended and held == b"ours":
                await self._redis.zrem(self._keys.pulled, stream_id)
        said: Held = held.decode()
        return said, event_id.decode()

    async def events(self, stream_id: str, last_id: str | None) -> list[tuple[str, dict[str, Any]]]:
        """Ids and events after the one with `last_id`, oldest first, some hundred at most."""
        with translate_redis_errors():
            entries: Any = await self._redis.xrange(
                self._keys.live_events(stream_id),
                min="-" if last_id is None else f"({last_id}",
                count=_READ_AT_ONCE,
            )
        return [(entry_id.decode(), json.loads(fields[b"event"])) for entry_id, fields in entries]

    async def abandoned(self, now: float) -> list[str]:
        """The sessions with a source that no process holds."""
        with translate_redis_errors():
            found: Any = await self._redis.zrange(self._keys.pulled, 0, -1)
        lost = []
        for stream_id in (one.decode() for one in found):
            state = await self.find(stream_id)
            if state is None or state.ended:
                with translate_redis_errors():
                    await self._redis.zrem(self._keys.pulled, stream_id)
            elif state.held_until <= now:
                lost.append(stream_id)
        return lost

    def _life_s(self) -> int:
        # A session that no process holds any more may be taken up again until its longest pause is over.
        return int(self._times.stream_lease_s + 2 * self._times.stream_idle_s) + self._times.stream_keep_s
