"""One pub/sub connection of a process: channels that it always listens on, and others for as long as it needs them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from service.queue.redis_pool import ask_role

RECONNECT_S = 0.5
SUBSCRIBED = b"subscribed"


@dataclass
class _Held:
    """A channel that is needed for a time."""

    confirmed: asyncio.Event = field(default_factory=asyncio.Event)
    holders: int = 0


class Subscription:
    """Calls `heard` with the channel and the data of each message, in the event loop.

    Once a channel of `listening` is subscribed, `heard` is called with `SUBSCRIBED`: what was published before is lost.
    The server is asked what it is, twice in `silent_s`, and the connection is made again where it has become a replica
    or has sent nothing for so long: one that the network has silently dropped looks like an idle one.
    """

    def __init__(
        self, redis: Redis, always: tuple[str, ...], heard: Callable[[str, bytes], None], silent_s: float
    ) -> None:
        self._redis = redis
        self._always = always
        self._heard = heard
        self._silent_s = silent_s
        self._pubsub: PubSub | None = None
        self._held: dict[str, _Held] = {}
        self._asked: set[str] = set()
        self._confirmed: set[str] = set()
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to listen; call once, in the event loop."""
        self._tasks = {asyncio.create_task(self._listen()), asyncio.create_task(self._adjust())}

    async def close(self) -> None:
        """Stop listening."""
        while running := {task for task in self._tasks if not task.done()}:
            for task in running:
                # Repeated: in Python 3.11 a cancellation that meets the end of a Redis command is lost.
                task.cancel()
            await asyncio.wait(running, timeout=RECONNECT_S)

    @contextlib.contextmanager
    def listening(self, channel: str) -> Iterator[asyncio.Event]:
        """Listen on `channel` too. The event is set once all that is published from then on is heard."""
        held = self._held.setdefault(channel, _Held())
        held.holders += 1
        if channel in self._confirmed:
            held.confirmed.set()
        self._changed.set()
        try:
            yield held.confirmed
        finally:
            held.holders -= 1
            if not held.holders:
                del self._held[channel]
                self._changed.set()

    async def _listen(self) -> None:
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    asked = {*self._always, *self._held}
                    await pubsub.subscribe(*asked)
                    self._pubsub, self._asked = pubsub, asked
                    self._changed.set()
                    async for message in self._messages(pubsub):
                        self._on_message(message["type"], message["channel"], message["data"])
            except (RedisError, OSError):
                await asyncio.sleep(RECONNECT_S)
            finally:
                self._pubsub = None
                self._confirmed.clear()

    async def _adjust(self) -> None:
        """Ask for the channels that are needed now, several at once, and for no others."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if (pubsub := self._pubsub) is None:
                continue
            wanted = {*self._always, *self._held}
            more, less = wanted - self._asked, self._asked - wanted
            self._asked = wanted
            self._confirmed -= less
            # Where it fails the connection is broken, and all is asked for anew by the task that reads from it.
            with contextlib.suppress(RedisError, OSError):
                if more:
                    await pubsub.subscribe(*more)
                if less:
                    await pubsub.unsubscribe(*less)

    async def _messages(self, pubsub: PubSub) -> AsyncIterator[dict[str, Any]]:
        """Everything that the server sends, also what it says of its role. Raises TimeoutError once that stays out."""
        loop = asyncio.get_running_loop()
        last = asked = loop.time()
        while True:
            message = await pubsub.get_message(timeout=max(0.0, asked + self._silent_s / 2 - loop.time()))
            if message is not None:
                last = loop.time()
                yield message
            if loop.time() - last >= self._silent_s:
                raise TimeoutError(f"Redis has sent nothing for {self._silent_s:g} s")
            if loop.time() - asked >= self._silent_s / 2:
                asked = loop.time()
                await ask_role(pubsub)

    def _on_message(self, kind: str, channel: bytes | None, data: Any) -> None:
        name = (channel or b"").decode()
        if kind == "message":
            self._heard(name, data)
        elif kind == "subscribe" and (held := self._held.get(name)) is not None:
            self._confirmed.add(name)
            held.confirmed.set()
            self._heard(name, SUBSCRIBED)
