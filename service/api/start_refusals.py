"""An API that refuses to start says why in one line."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import VidtrError


class StartRefusals:
    """ASGI middleware around the app.

    An error of the service that ends the start is told to the server as its code and detail. Other exceptions keep
    their traceback.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        failure: Message | None = None

        async def hold_failure(message: Message) -> None:
            nonlocal failure
            if message["type"] == "lifespan.startup.failed":
                failure = message
            else:
                await send(message)

        try:
            await self._app(scope, receive, hold_failure)
        except VidtrError as error:
            if failure is None:
                raise
            await send({**failure, "message": f"{error.code}: {error.detail}"})
        except BaseException:
            if failure is not None:
                await send(failure)
            raise
