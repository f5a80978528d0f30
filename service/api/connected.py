"""Work that is of no use without the client that asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from fastapi import Request

from service.errors import MalformedRequest

Answer = TypeVar("Answer")


async def while_connected(request: Request, work: Coroutine[None, None, Answer]) -> Answer:
    """The answer of `work`, which is cancelled once the client is gone. Raises MalformedRequest then."""
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise MalformedRequest("the connection closed before the answer")
    finally:
        gone.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
