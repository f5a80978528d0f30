"""Cancelling work whose client has disconnected."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from fastapi import Request

from service.errors import MalformedRequest

Answer = TypeVar("Answer")


async def cancel_on_disconnect(request: Request, work: Coroutine[None, None, Answer]) -> Answer:
    """The result of `work`, which is cancelled when the client disconnects. Raises MalformedRequest then."""
    try:
        async with asyncio.timeout(None) as scope:
            watch = asyncio.create_task(_expire(request, scope))
            try:
                return await work
            finally:
                watch.cancel()
    except TimeoutError:
        if scope.expired():
            raise MalformedRequest("The client closed the connection before the response.") from None
        raise


async def _expire(request: Request, scope: asyncio.Timeout) -> None:
    """End `scope` when the client is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    scope.reschedule(asyncio.get_running_loop().time())
