"""Running the app under uvicorn, with a graceful shutdown that drops no request."""

from __future__ import annotations

import asyncio
import functools
import signal
import socket
import sys
from types import FrameType
from typing import cast

import uvicorn
from fastapi import FastAPI

from service.api.app import create_app
from service.api.connections import ConnectionConfig, Connections
from service.api.http_guard import Guarded
from service.api.start_refusals import StartRefusals
from service.settings import Settings
from service.steady_heap import keep_apart


class Server(uvicorn.Server):
    """Uvicorn, which tells the app of the first stop signal, before it closes connections.

    What is loaded when it begins to listen is left out of garbage collections.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the app and listen."""
        await super().startup(sockets)
        keep_apart()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start draining, then let uvicorn finish the requests in flight."""
        state = getattr(self._app.state, "api", None)
        if state is not None:
            state.drain()
        super().handle_exit(sig, frame)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP."""
    app = create_app(settings)
    guard = Connections(settings.subset(ConnectionConfig))
    config = uvicorn.Config(
        StartRefusals(app),
        # A factory: uvicorn calls it for each connection.
        http=cast(type[asyncio.Protocol], functools.partial(_protocol(), guard)),
        # The limits hold for HTTP; nothing here speaks another protocol.
        ws="none",
        timeout_keep_alive=settings.keep_alive_s,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.shutdown_grace_s),
        lifespan="on",
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
    )
    # Uvicorn raises the signal again once it has shut down; dying of it would skip the interpreter's own clean-up and
    # leave the semaphores of the decode pool behind.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    server = Server(config, app)
    # Uvicorn does not know the end of a terminal. Where `nohup` had it ignored, it stays so.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, server.handle_exit)
    server.run()


def _protocol() -> type[Guarded]:
    try:
        from service.api.http_httptools import GuardedHttpTools
    except ImportError:
        from service.api.http_h11 import GuardedH11

        return GuardedH11
    return GuardedHttpTools


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(0)
