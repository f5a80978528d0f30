"""What a client may make the server hold before the application hears of it: real connections, both parsers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import psutil
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from service.api.connections import ConnectionConfig, Connections
from service.api.http_guard import Guarded
from service.api.http_h11 import GuardedH11
from service.api.http_httptools import GuardedHttpTools
from service.telemetry import metrics

LIMITS = ConnectionConfig(
    max_header_bytes=8192,
    max_headers=20,
    max_url_bytes=1000,
    head_timeout_s=30,
    answer_stall_s=30,
    max_connections=1000,
    max_connections_per_address=500,
    max_concurrent_uploads=4,
    decode_workers=1,
    trusted_proxies=(),
)
MIB = 1 << 20


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the number of bytes in the body and their digest; `/late` looks at them after a while, `/slow`
    answers only when the client is gone, `/long` with 64 MiB."""
    received, digest = 0, hashlib.sha256()
    if scope["path"] == "/late":
        await asyncio.sleep(0.1)
    while True:
        message = await receive()
        received += len(message.get("body", b""))
        digest.update(message.get("body", b""))
        if not message.get("more_body", False):
            break
    if scope["path"] == "/slow":
        await receive()
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"transfer-encoding", b"chunked")]})
    if scope["path"] == "/long":
        for _ in range(64):
            await send({"type": "http.response.body", "body": bytes(MIB), "more_body": True})
    await send({"type": "http.response.body", "body": f"{received} {digest.hexdigest()}".encode()})


async def until(happened: Callable[[], bool]) -> None:
    while not happened():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(parser: type[Guarded], descriptors: int = 1 << 20, **limits: Any) -> AsyncIterator[int]:
    guard = Connections(replace(LIMITS, **limits), descriptors)
    config = uvicorn.Config(
        app,
        port=0,
        lifespan="off",
        log_config=None,
        ws="none",
        timeout_graceful_shutdown=1,
        http=cast(type[asyncio.Protocol], functools.partial(parser, guard)),
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())
    await until(lambda: server.started)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer_to(port: int, *parts: bytes) -> bytes:
    async with connected(port) as (reader, writer):
        for part in parts:
            writer.write(part)
            await writer.drain()
        return await reader.read()


def problem(answer: bytes) -> tuple[int, dict[str, Any]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    document = json.loads(body)
    assert f"x-request-id: {document['request_id']}".encode() in head
    assert b"connection: close" in head
    return int(head.split()[1]), document


@pytest.fixture(params=[GuardedHttpTools, GuardedH11])
def parser(request: pytest.FixtureRequest) -> type[Guarded]:
    return cast(type[Guarded], request.param)


GET = b"GET / HTTP/1.1\r\nHost: here\r\n"
LAST = b"Connection: close\r\n\r\n"


async def test_a_request_within_the_limits_is_answered(parser: type[Guarded]) -> None:
    async with serving(parser) as port:
        answer = await answer_to(port, GET, b"X-A: " + b"a" * 7000 + b"\r\n", LAST)
    assert answer.startswith(b"HTTP/1.1 200")


async def test_a_body_is_not_bounded_by_the_limit_of_the_head(parser: type[Guarded]) -> None:
    body = b"".join(b"400\r\n" + bytes(1024) + b"\r\n" for _ in range(1000)) + b"0\r\n\r\n"
    async with serving(parser) as port:
        answer = await answer_to(port, GET + b"Transfer-Encoding: chunked\r\n" + LAST, body)
    assert b"1024000" in answer


@pytest.mark.parametrize("path", ["/", "/late"])
@pytest.mark.parametrize("size", [1, 100, 70_000, 1_000_000])
async def test_a_body_arrives_whole_in_whatever_pieces_it_comes(parser: type[Guarded], path: str, size: int) -> None:
    body = os.urandom(min(1_000_000, 300 * size))
    head = f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n".encode() + LAST
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    async with serving(parser) as port:
        answer = await answer_to(port, head, *pieces)
    assert f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode() in answer


@pytest.mark.parametrize(
    ("parts", "status", "code"),
    [
        ([GET, b"X-A: " + b"a" * 9000 + b"\r\n\r\n"], 431, "headers_too_large"),
        ([GET, b"X-A: b\r\n" * 30, b"\r\n"], 431, "headers_too_large"),
        ([b"GET /" + b"a" * 2000 + b" HTTP/1.1\r\nHost: here\r\n\r\n"], 414, "url_too_long"),
        ([b"nonsense\r\n\r\n"], 400, "malformed_request"),
        ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"], 400, "malformed_request"),
        (
            [b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n", b"xyz\r\n"],
            400,
            "malformed_request",
        ),
    ],
    ids=["bytes", "number", "url", "no HTTP", "TLS", "chunk"],
)
async def test_what_is_refused_gets_a_problem_document_and_is_counted(
    parser: type[Guarded], parts: list[bytes], status: int, code: str
) -> None:
    closed = metrics.CONNECTIONS_CLOSED.labels(code)
    before = closed._value.get()
    async with serving(parser) as port:
        answered, document = problem(await answer_to(port, *parts))
    assert (answered, document["code"], closed._value.get()) == (status, code, before + 1)


@pytest.mark.parametrize(
    "head",
    [
        GET + b"X-Endless: ",
        GET + b"Transfer-Encoding: chunked\r\n\r\n5;x=",
        GET + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: ",
    ],
    ids=["header", "chunk extension", "trailer"],
)
async def test_what_never_ends_costs_no_memory(parser: type[Guarded], head: bytes) -> None:
    async with serving(parser) as port:
        process = psutil.Process()
        before = process.memory_info().rss
        grown = 0
        async with connected(port) as (_, writer):
            writer.write(head)
            with contextlib.suppress(ConnectionError):
                for _ in range(200):
                    writer.write(b"a" * MIB)
                    await writer.drain()
                    grown = max(grown, process.memory_info().rss - before)
            assert writer.is_closing()
    assert grown < 10 * MIB


@pytest.mark.parametrize(
    ("origins", "allowed"),
    [(("https://app.example",), b"https://app.example"), (("*",), b"*"), (("https://else.example",), None), ((), None)],
)
async def test_a_page_of_an_allowed_origin_can_read_the_refusal(
    parser: type[Guarded], origins: tuple[str, ...], allowed: bytes | None
) -> None:
    async with serving(parser, cors_origins=origins) as port:
        answer = await answer_to(port, GET, b"Origin: https://app.example\r\n", b"X-A: b\r\n" * 30, b"\r\n")
    assert problem(answer)[0] == 431
    assert (b"access-control-allow-origin: %b\r\n" % (allowed or b"") in answer) is (allowed is not None)
    assert (b"access-control-expose-headers" in answer) is (allowed is not None)


async def test_no_interim_answer_is_sent_to_a_client_that_knows_none(parser: type[Guarded]) -> None:
    head = b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
    async with serving(parser) as port:
        assert b"100 Continue" not in await answer_to(port, head, b"a")


async def test_many_small_headers_are_refused_by_their_bytes(parser: type[Guarded]) -> None:
    async with serving(parser, max_headers=1 << 30) as port:
        status, document = problem(await answer_to(port, GET, b"X-A: b\r\n" * 2000))
    assert (status, document["code"]) == (431, "headers_too_large")


async def test_a_head_that_does_not_end_in_time_is_answered_with_408(parser: type[Guarded]) -> None:
    async with serving(parser, head_timeout_s=0.2) as port:
        status, document = problem(await answer_to(port, GET))
    assert (status, document["code"]) == (408, "head_timeout")


async def test_a_second_head_has_its_own_time(parser: type[Guarded]) -> None:
    async with serving(parser, head_timeout_s=0.2) as port, connected(port) as (reader, writer):
        writer.write(GET + b"\r\n")
        await reader.readuntil(b"0\r\n\r\n")
        writer.write(GET)
        assert (await reader.readline()).split()[1] == b"408"


async def test_a_silent_connection_is_closed_without_an_answer(parser: type[Guarded]) -> None:
    async with serving(parser, head_timeout_s=0.2) as port:
        assert await answer_to(port) == b""


async def test_a_request_under_way_outlives_the_time_for_its_head(parser: type[Guarded]) -> None:
    async with serving(parser, head_timeout_s=0.2) as port, connected(port) as (reader, writer):
        writer.write(GET + b"Content-Length: 1\r\n" + LAST)
        await asyncio.sleep(0.5)
        writer.write(b"a")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")


async def test_a_client_that_does_not_read_its_answer_is_let_go(parser: type[Guarded]) -> None:
    stalled = metrics.CONNECTIONS_CLOSED.labels("answer_stalled")
    before = stalled._value.get()
    async with serving(parser, answer_stall_s=0.2) as port, connected(port) as (_, writer):
        writer.write(b"GET /long HTTP/1.1\r\nHost: here\r\n\r\n")
        await until(lambda: stalled._value.get() > before)


async def test_silent_connections_give_way_to_a_request(parser: type[Guarded]) -> None:
    async with serving(parser, max_connections=20) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
        assert (await answer_to(port, GET + LAST)).startswith(b"HTTP/1.1 200")
        for _, writer in silent:
            writer.close()


async def test_a_request_under_way_does_not_give_way(parser: type[Guarded]) -> None:
    async with serving(parser, max_connections_per_address=2) as port:
        busy = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for _, writer in busy:
            writer.write(b"GET /slow HTTP/1.1\r\nHost: here\r\n\r\n")
            await writer.drain()
        # Once both are under way there is no room; until then one of them may be the idle one.
        await asyncio.sleep(0.2)
        status, document = problem(await answer_to(port))
        assert (status, document["code"]) == (503, "too_many_connections")
        for reader, writer in busy:
            assert not reader.at_eof()
            writer.close()


class Silent:
    """A connection without a request, of which it is told whether it gave way."""

    idle = True
    gone = False

    def give_way(self) -> None:
        self.gone = True


def admitted(guard: Connections, *addresses: str) -> list[Silent]:
    connections = []
    for address in addresses:
        connections.append(Silent())
        assert guard.admit(connections[-1], address)
    return connections


def test_the_address_with_the_most_connections_gives_way_first() -> None:
    guard = Connections(replace(LIMITS, max_connections=4), 1 << 20)
    one, two, three, four = admitted(guard, "10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.3")
    admitted(guard, "10.0.0.4")
    assert [one.gone, two.gone, three.gone, four.gone] == [False, True, False, False]


def test_one_address_has_half_of_all_connections_at_most() -> None:
    guard = Connections(replace(LIMITS, max_connections=4), 1 << 20)
    one, _two, _three = admitted(guard, "10.0.0.1", "10.0.0.1", "10.0.0.1")
    assert one.gone
    assert len(guard) == 2


def test_addresses_of_one_ipv6_network_are_one() -> None:
    guard = Connections(replace(LIMITS, max_connections=4), 1 << 20)
    one, *_ = admitted(guard, "2001:db8::1", "2001:db8::2", "2001:db8::3")
    assert one.gone


def test_a_trusted_proxy_has_all_connections() -> None:
    guard = Connections(replace(LIMITS, max_connections=4, trusted_proxies=("10.0.0.0/8",)), 1 << 20)
    assert not any(connection.gone for connection in admitted(guard, *["10.0.0.1"] * 4))


def test_the_limit_of_open_files_bounds_connections(capsys: pytest.CaptureFixture[str]) -> None:
    guard = Connections(LIMITS, 512)
    assert guard.limit < 512 - 64
    assert "few_descriptors" in capsys.readouterr().out


def test_a_connection_that_ended_leaves_its_place() -> None:
    guard = Connections(replace(LIMITS, max_connections_per_address=1), 1 << 20)
    [one] = admitted(guard, "10.0.0.1")
    guard.remove(one)
    guard.remove(one)
    [two] = admitted(guard, "10.0.0.1")
    assert not one.gone
    assert not two.gone
    assert len(guard) == 1
