"""The connection to Redis: one way to connect, and one to report that Redis cannot be reached."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import ConnectionError, RedisError, TimeoutError

from service.errors import RETRY_AFTER_S, QueueUnavailable, sentence
from service.queue.redis_address import primary_of
from service.queue.redis_pool import Client, FilePassword, Pool, retry
from service.queue.redis_problems import NotWritable, is_full, why_unreachable
from service.queue.scripts import Call, Script
from service.redis_url import RedisUrl

SOCKET_TIMEOUT_S = 10.0
READ_SIZE = 1 << 20
# Commands that one client has on their way at a time; more wait for one of them to end. Each 202 has one until its job
# is on disk.
MAX_CONNECTIONS = 1000
FULL = "Redis has reached its memory limit. Try again later."


def connect(
    url: str,
    *,
    name: str,
    tag: str = "",
    password_file: Path | None = None,
    socket_timeout_s: float = SOCKET_TIMEOUT_S,
) -> Redis:
    """A client of the server that is written to, which returns bytes. Close it with `aclose()`.

    `url` names a server, Sentinels or a cluster (`service.redis_url`); each connection looks for the server anew. In a
    cluster that is the one that has the keys of the hash tag `tag` (`hash_tag`), and other keys cannot be used.
    The password in `password_file` is read for each connection. The socket timeout must exceed every BLOCK that is
    sent. A command is sent again, once where a connection was lost and for some seconds where a server takes no writes:
    every command used is safe to repeat (a clip enqueued twice is counted once). Raises ValueError for a wrong URL.
    """
    parsed = RedisUrl.parse(url)
    options: dict[str, Any] = {}
    if password_file is not None:
        if parsed.has_password:
            raise ValueError("A password in the Redis address excludes one in a file.")
        options["credential_provider"] = FilePassword(parsed.username, password_file)
    pool = Pool.of(
        parsed.server_url,
        lambda found: primary_of(parsed, tag, found),
        timeout=SOCKET_TIMEOUT_S,
        client_name=name,
        socket_timeout=socket_timeout_s,
        socket_connect_timeout=3.0,
        socket_read_size=READ_SIZE,
        max_connections=MAX_CONNECTIONS,
        health_check_interval=15,
        retry=retry(),
        retry_on_error=[ConnectionError, TimeoutError],
        **options,
    )
    return Client.from_pool(pool)


async def doubt(redis: Redis) -> None:
    """Have a client look whether the server that it writes to is still the primary."""
    if isinstance(redis.connection_pool, Pool):
        await redis.connection_pool.suspect()


Reply = TypeVar("Reply")


async def run_all(redis: Redis, script: Script, calls: Sequence[Call]) -> list[Any]:
    """Replies of a script to several calls, sent together. Raises QueueUnavailable."""
    if not calls:
        return []
    with translate_redis_errors():
        if len(calls) == 1:
            # Alone it needs no pipeline, which would ask first whether the server knows the script.
            return [await script(keys=calls[0].keys, args=calls[0].args)]
        pipe = redis.pipeline(transaction=False)
        for call in calls:
            await script(keys=call.keys, args=call.args, client=pipe)
        return list(await pipe.execute())


async def finish_before_cancel(work: Awaitable[Reply]) -> Reply:
    """The reply to a command. A cancellation is raised only once the reply is there and the server is done."""
    sent = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(sent)
    except asyncio.CancelledError:
        with suppress(RedisError, OSError):
            await sent
        raise


@contextmanager
def translate_redis_errors() -> Iterator[None]:
    """Turn a Redis failure into QueueUnavailable."""
    try:
        yield
    except NotWritable as error:
        detail = f"Redis takes no writes now: {error}. Try again later."
        raise QueueUnavailable(detail, retry_after_s=RETRY_AFTER_S) from error
    except (ConnectionError, TimeoutError, OSError) as error:
        detail = f"Redis cannot be reached: {why_unreachable(error)}."
        raise QueueUnavailable(detail, retry_after_s=RETRY_AFTER_S) from error
    except RedisError as error:
        detail = FULL if is_full(error) else f"Redis refused a command: {sentence(str(error))}"
        raise QueueUnavailable(detail, retry_after_s=RETRY_AFTER_S) from error
