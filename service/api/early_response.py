"""Responses sent before the request's body was read, without a connection reset that could destroy them."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DRAIN_BYTES = 1 << 20
DRAIN_S = 1.0


class EarlyResponseMiddleware:
    """ASGI middleware. An answer to a body that is still arriving closes the connection.

    Closing while bytes are unread makes the kernel send a reset, which may reach the client before the answer is read.
    So the answer goes out first, then a little of the body is read and thrown away. A client that asked with
    `Expect: 100-continue` was never told to send it, and there is nothing to throw away.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        asked = complete = early = False

        async def watched_receive() -> Message:
            nonlocal asked, complete
            asked = True
            message = await receive()
            complete = complete or message["type"] != "http.request" or not message.get("more_body", False)
            return message

        async def watched_send(message: Message) -> None:
            nonlocal early
            if message["type"] == "http.response.start" and not complete:
                early = True
                MutableHeaders(scope=message)["Connection"] = "close"
            if early and message["type"] == "http.response.body" and not message.get("more_body", False):
                await send({**message, "more_body": True})
                if asked or Headers(scope=scope).get("expect", "").lower() != "100-continue":
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(DRAIN_S):
                            await _drain(receive)
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        await self._app(scope, watched_receive, watched_send)


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


async def _drain(receive: Receive) -> None:
    drained = 0
    while drained < DRAIN_BYTES:
        message = await receive()
        drained += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            return
