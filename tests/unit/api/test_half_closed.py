"""Clients that close their side after the request: those that wait are answered, those that are gone are noticed."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from service.api.connections import ConnectionConfig, Connections
from service.api.http_guard import Guarded
from service.api.http_h11 import GuardedH11
from service.api.http_httptools import GuardedHttpTools
from tests.unit.api.test_http_limits import LIMITS, until

REQUEST = b"POST /%b HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\n\r\nabc"


class App:
    """Answers each request once it is told to, and knows whose clients went away."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.gone: list[str] = []
        self.may_answer = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body", False):
            pass
        self.began.append(scope["path"])
        going = asyncio.ensure_future(self.wait_for_end(receive, scope["path"]))
        await self.may_answer.wait()
        going.cancel()
        body = scope["path"].encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def wait_for_end(self, receive: Receive, path: str) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone.append(path)


@asynccontextmanager
async def serving(app: App, parser: type[Guarded], limits: ConnectionConfig = LIMITS) -> AsyncIterator[int]:
    guard = Connections(limits, 1 << 20)
    protocol = cast(type[asyncio.Protocol], functools.partial(parser, guard))
    config = uvicorn.Config(app, port=0, lifespan="off", log_config=None, ws="none", http=protocol)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())
    await until(lambda: server.started)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        app.may_answer.set()
        server.should_exit = True
        await task


@pytest.fixture(params=[GuardedHttpTools, GuardedH11])
def parser(request: pytest.FixtureRequest) -> type[Guarded]:
    return cast(type[Guarded], request.param)


async def test_a_client_that_waits_is_answered_and_the_connection_then_closed(parser: type[Guarded]) -> None:
    app = App()
    async with serving(app, parser) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST % b"one")
        writer.write_eof()
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        app.may_answer.set()
        assert (await reader.read()).endswith(b"\r\n\r\n/one")
        writer.close()
    assert not app.gone


async def test_a_client_that_is_gone_is_noticed(parser: type[Guarded]) -> None:
    app = App()
    async with serving(app, parser) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST % b"one")
        await until(lambda: bool(app.began))
        writer.close()
        await until(lambda: app.gone == ["/one"])


async def test_all_requests_that_were_sent_ahead_are_answered(parser: type[Guarded]) -> None:
    app = App()
    async with serving(app, parser) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST % b"one" + REQUEST % b"two")
        writer.write_eof()
        app.may_answer.set()
        answers = await reader.read()
        writer.close()
    assert answers.index(b"\r\n\r\n/one") < answers.index(b"\r\n\r\n/two")


async def test_a_request_that_will_never_be_whole_is_given_up(parser: type[Guarded]) -> None:
    app = App()
    async with serving(app, parser) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write((REQUEST % b"one")[:-1])
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()


async def test_a_client_that_knows_no_interim_answers_gets_none(parser: type[Guarded]) -> None:
    app = App()
    async with serving(app, parser) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write((REQUEST % b"one").replace(b"1.1", b"1.0"))
        await until(lambda: bool(app.began))
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await until(lambda: app.gone == ["/one"])
