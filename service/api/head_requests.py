"""HEAD wherever there is GET, as RFC 9110 asks of every server: monitors and load balancers send it."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadRequests:
    """ASGI middleware. A HEAD is handled as the GET of its path, and ends with the headers of the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        answered = asyncio.Event()

        async def receive_until_answered() -> Message:
            # An event stream has no end of its own: it ends when its client goes.
            message = asyncio.ensure_future(receive())
            over = asyncio.ensure_future(answered.wait())
            try:
                await asyncio.wait({message, over}, return_when=asyncio.FIRST_COMPLETED)
                return message.result() if message.done() else {"type": "http.disconnect"}
            finally:
                message.cancel()
                over.cancel()

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                answered.set()

        # The server still has to know that no body is sent.
        inner = {**scope, "method": "GET"}
        try:
            await self._app(inner, receive_until_answered, send_head)
        finally:
            scope.update({**inner, "method": "HEAD"})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
