"""Partitions of the queue: each is a whole queue of its own, with keys and a client of its own.

A job lives in one partition with everything that belongs to it, and its id says in which. With several partitions the
keys of each have a hash tag, so that a Redis Cluster keeps each partition on one of its servers, and all servers work.
"""

from __future__ import annotations

import asyncio
import hashlib
from binascii import crc_hqx
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import Any, Generic, TypeVar, overload
from uuid import uuid4

from redis.asyncio import Redis

from service.errors import QueueUnavailable
from service.queue.connection import SOCKET_TIMEOUT_S, connect
from service.queue.redis_keys import RedisKeys
from service.redis_url import hash_tag, prefix_of_keys

Part = TypeVar("Part", covariant=True)
Item = TypeVar("Item")
Other = TypeVar("Other")

MOST_PARTITIONS = 256
SLOTS = 16384
"""of a Redis Cluster"""
# For so long a partition that could not be reached is the last to be tried.
AWAY_S = 5.0
# Hexadecimal digits at the beginning of a job's id that are the number of its partition.
ID_DIGITS = 3


def unheard(call: Coroutine[Any, Any, Item]) -> asyncio.Task[Item]:
    """A call to one partition among several, of which the first good answer counts: a later one may fail unheard."""
    task = asyncio.ensure_future(call)
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    return task


def job_id_in(number: int, count: int, random: str = "") -> str:
    """An id for a job in one of `count` partitions; `random` are the 32 hexadecimal digits of a UUID."""
    text = random or uuid4().hex
    return text if count == 1 else f"{number:0{ID_DIGITS}x}{text[ID_DIGITS:]}"


def number_of(job_id: str, count: int) -> int:
    """The partition of a job. One of `count` whatever the text: a caller may ask for a job that never was."""
    if count == 1:
        return 0
    try:
        return int(job_id[:ID_DIGITS], 16) % count
    except ValueError:
        return 0


def share_of(total: int, count: int) -> int:
    """What one of `count` partitions may hold of what all may hold together, rounded up."""
    return -(-total // count)


def prefixes(prefix: str, count: int) -> list[str]:
    """What the names of keys begin with in each of several partitions: a hash tag.

    The slots of the tags divide those of a cluster evenly: of three servers with a third of the slots each, every one
    gets a third of the partitions.
    """
    return [f"{{{_tag(f'{prefix}:{number}', number, count)}}}" for number in range(count)]


def _tag(name: str, number: int, count: int) -> str:
    tag, tries = name, 0
    while crc_hqx(tag.encode(), 0) % SLOTS * count // SLOTS != number:
        tries += 1
        tag = f"{name}.{tries}"
    return tag


class PerPartition(Sequence[Part], Generic[Part]):
    """One of a kind for each partition, in their order."""

    def __init__(self, parts: Iterable[Part]) -> None:
        self._parts = tuple(parts)

    def of(self, job_id: str) -> Part:
        """That of the partition of a job."""
        return self._parts[number_of(job_id, len(self._parts))]

    def home(self, name: str) -> Part:
        """That of the partition where something has its place that every process finds by `name`."""
        return self._parts[self.home_number(name)]

    def home_number(self, name: str) -> int:
        """The number of the partition that `home` means."""
        if len(self._parts) == 1:
            return 0
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % len(self._parts)

    def map(self, make: Callable[[Part], Other]) -> PerPartition[Other]:
        """One of another kind for each partition."""
        return PerPartition(map(make, self._parts))

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[Part]:
        return iter(self._parts)

    @overload
    def __getitem__(self, index: int) -> Part: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Part]: ...

    def __getitem__(self, index: int | slice) -> Part | Sequence[Part]:
        return self._parts[index]


@dataclass(frozen=True)
class Partition:
    """Where one partition is: its client and the names of its keys."""

    redis: Redis
    keys: RedisKeys


@dataclass(frozen=True)
class QueueAddress:
    """Where the queue is. Field names equal those of `service.settings.Settings`."""

    redis_url: str
    redis_prefix: str
    queue_partitions: int = 1
    redis_password_file: Path | None = None

    def key_names(self) -> PerPartition[RedisKeys]:
        """The names of keys in each partition. One has the names of earlier releases, in a cluster in a hash tag."""
        count = self.queue_partitions
        alone = [prefix_of_keys(self.redis_url, self.redis_prefix)]
        return PerPartition(map(RedisKeys, alone if count == 1 else prefixes(self.redis_prefix, count)))

    def connect(self, name: str, *, socket_timeout_s: float = SOCKET_TIMEOUT_S) -> PerPartition[Partition]:
        """Clients of all partitions, which connect when they are used."""
        return self.key_names().map(lambda keys: Partition(self.client(keys, name, socket_timeout_s), keys))

    def client(self, keys: RedisKeys, name: str, socket_timeout_s: float = SOCKET_TIMEOUT_S) -> Redis:
        """A client for keys of one prefix; see `service.queue.connection.connect`."""
        return connect(
            self.redis_url,
            name=name,
            tag=hash_tag(keys.prefix),
            password_file=self.redis_password_file,
            socket_timeout_s=socket_timeout_s,
        )


class Rotation:
    """The order in which uploads try the partitions: each upload begins with the next one.

    One that was away is tried last for some seconds.
    """

    def __init__(self, count: int) -> None:
        self._next = SystemRandom().randrange(count) if count > 1 else 0
        self._away_until = [0.0] * count

    def order(self) -> list[int]:
        """Numbers of all partitions."""
        count, now = len(self._away_until), asyncio.get_running_loop().time()
        first, self._next = self._next, (self._next + 1) % count
        turn = [*range(first, count), *range(first)]
        return sorted(turn, key=lambda number: self._away_until[number] > now)

    def away(self, number: int) -> None:
        """A partition could not be reached just now."""
        self._away_until[number] = asyncio.get_running_loop().time() + AWAY_S


async def close(partitions: Iterable[Partition]) -> None:
    """Close the clients."""
    for partition in partitions:
        await partition.redis.aclose()


async def ask_all(
    parts: Sequence[Item], ask: Callable[[Item], Coroutine[Any, Any, Other]]
) -> list[Other | QueueUnavailable]:
    """The reply of each part, or why it cannot be reached, once all have replied. Raises every other error."""
    if len(parts) == 1:
        return [await ask(parts[0])]
    # None is left running: its failure would reach no caller.
    replies = await asyncio.gather(*map(ask, parts), return_exceptions=True)
    found: list[Other | QueueUnavailable] = []
    for reply in replies:
        if isinstance(reply, BaseException) and not isinstance(reply, QueueUnavailable):
            raise reply
        found.append(reply)
    return found


class Independently:
    """Does the same in all partitions at a time, so that one that hangs delays the others by `patience_s` at most.

    It is left out until its call has ended. Calls are never cancelled: in Python 3.11 a cancellation that meets the end
    of a Redis command is lost.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._running: dict[int, asyncio.Task[None]] = {}

    async def run(self, parts: Sequence[Item], work: Callable[[Item], Awaitable[None]]) -> None:
        """Call `work`, which handles its own errors, for each part. Raises what it raises in spite of that."""
        if len(parts) == 1:
            await work(parts[0])
            return
        task = asyncio.current_task()
        name = task.get_name() if task is not None else None
        for number, part in enumerate(parts):
            if number not in self._running:
                self._running[number] = asyncio.create_task(_called(work, part), name=name)
        await asyncio.wait(self._running.values(), timeout=self._patience_s)
        ended = [self._running.pop(number) for number in list(self._running) if self._running[number].done()]
        for call in ended:
            call.result()


async def _called(work: Callable[[Item], Awaitable[None]], part: Item) -> None:
    await work(part)
