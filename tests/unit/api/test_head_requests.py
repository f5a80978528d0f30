"""HEAD, as monitors and load balancers send it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.sse import EventSourceResponse

from service.api.app import create_app
from service.settings import Settings


@pytest.fixture
def app() -> FastAPI:
    app = create_app(Settings(_env_file=None))

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"data: x\n\n"
            await asyncio.sleep(0.01)

    @app.get("/endless")
    async def stream() -> EventSourceResponse:
        return EventSourceResponse(endless())

    @app.get("/fails")
    async def fails() -> None:
        raise ArithmeticError

    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/health/live", "/static/style.css", "/nothing"])
async def test_head_has_the_status_and_the_headers_of_get_and_no_body(client: httpx.AsyncClient, path: str) -> None:
    got, head = await client.get(path), await client.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers["Content-Type"] == got.headers["Content-Type"]
    assert head.headers["X-Request-Id"]


async def test_head_of_an_event_stream_ends(client: httpx.AsyncClient) -> None:
    head = await client.head("/endless")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Type"].startswith("text/event-stream")


async def test_head_of_what_fails_is_the_failure(client: httpx.AsyncClient) -> None:
    assert (await client.head("/fails")).status_code == 500


async def test_head_where_there_is_no_get_is_refused(client: httpx.AsyncClient) -> None:
    head = await client.head("/v1/classify")
    assert (head.status_code, head.headers["Allow"]) == (405, "POST")
