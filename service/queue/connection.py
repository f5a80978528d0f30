"""The connection to Redis: one way to connect, and one to report that Redis cannot be reached."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError, OutOfMemoryError, RedisError, TimeoutError

from service.errors import RETRY_AFTER_S, QueueUnavailable, sentence
from service.queue.scripts import Call, Script

SOCKET_TIMEOUT_S = 10.0
READ_SIZE = 1 << 20
# Commands that one client has on their way at a time; more wait for one of them to end. Each 202 has one until its job
# is on disk.
MAX_CONNECTIONS = 1000
FULL = "Redis has reached its memory limit. Try again later."


def connect(url: str, *, name: str, socket_timeout_s: float = SOCKET_TIMEOUT_S) -> Redis:
    """A client for `url` that returns bytes. Close it with `aclose()`.

    The socket timeout must exceed every BLOCK that is sent. One retry covers a pooled connection that a restarted
    server closed; every command used is safe to repeat (a clip enqueued twice is counted once).
    """
    pool: Any = BlockingConnectionPool.from_url(
        url,
        timeout=SOCKET_TIMEOUT_S,
        client_name=name,
        socket_timeout=socket_timeout_s,
        socket_connect_timeout=3.0,
        socket_read_size=READ_SIZE,
        max_connections=MAX_CONNECTIONS,
        health_check_interval=15,
        retry=Retry(ConstantBackoff(0.05), 1),
        retry_on_error=[ConnectionError, TimeoutError],
    )
    return Redis.from_pool(pool)


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
    except OutOfMemoryError as error:
        raise QueueUnavailable(FULL, retry_after_s=RETRY_AFTER_S) from error
    except (ConnectionError, TimeoutError, OSError) as error:
        detail = f"Redis cannot be reached: {type(error).__name__}."
        raise QueueUnavailable(detail, retry_after_s=RETRY_AFTER_S) from error
    except RedisError as error:
        # Refused inside a script, it comes as a plain error of the script.
        detail = FULL if "-OOM " in str(error) else f"Redis refused a command: {sentence(str(error))}"
        raise QueueUnavailable(detail, retry_after_s=RETRY_AFTER_S) from error
