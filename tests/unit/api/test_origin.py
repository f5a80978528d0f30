"""The names under which the API answers, and the pages for which it changes something."""

from __future__ import annotations

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from service.api.middleware import RequestContext
from service.api.origin import Origins


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("served")(scope, receive, send)


async def asked(
    method: str, *headers: tuple[str, str], names: tuple[str, ...] = (), origins: tuple[str, ...] = ()
) -> httpx.Response:
    guarded = RequestContext(Origins(app, names=names, origins=origins))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=guarded), base_url="http://localhost") as client:
        return await client.request(method, "/v1/jobs", headers=list(headers))


OWN = [
    "localhost",
    "localhost:8080",
    "LOCALHOST.",
    "vidtr.localhost:80",
    "127.0.0.1:8080",
    "10.1.2.3",
    "[::1]",
    "[::1]:8080",
    "[2001:db8::1]:8080",
]


@pytest.mark.parametrize("host", OWN)
async def test_the_names_of_ones_own_machine_and_addresses_are_served(host: str) -> None:
    assert (await asked("GET", ("Host", host))).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "notlocalhost",
        "",
    ],
)
async def test_another_name_is_refused(host: str) -> None:
    answer = await asked("GET", ("Host", host))
    assert (answer.status_code, answer.json()["code"]) == (421, "host_not_allowed")


@pytest.mark.parametrize(
    ("version", "hosts", "status"),
    [("1.1", ["localhost"], 200), ("1.1", [], 400), ("1.1", ["localhost", "localhost"], 400), ("1.0", [], 200)],
)
async def test_a_request_names_one_host(version: str, hosts: list[str], status: int) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", host.encode()) for host in hosts]
    scope = {"type": "http", "method": "GET", "path": "/", "http_version": version, "headers": headers}
    await RequestContext(Origins(app, names=(), origins=()))(scope, receive, send)
    assert sent[0]["status"] == status


async def test_a_configured_name_is_served() -> None:
    assert (await asked("GET", ("Host", "Video.Example:443"), names=("video.example",))).status_code == 200


async def test_every_name_is_served_where_all_are_allowed() -> None:
    assert (await asked("GET", ("Host", "any.example"), names=("*",))).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        [("Sec-Fetch-Site", "cross-site")],
        [("Sec-Fetch-Site", "cross-site"), ("Origin", "https://evil.example")],
        [("Sec-Fetch-Site", "same-site"), ("Origin", "http://localhost:3000")],
        [("Sec-Fetch-Site", "cross-site"), ("Origin", "http://localhost")],
        [("Origin", "https://evil.example")],
        [("Origin", "null")],
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_a_change_for_a_page_of_another_origin_is_refused(method: str, headers: list[tuple[str, str]]) -> None:
    answer = await asked(method, *headers, names=("*",), origins=("https://app.example",))
    assert (answer.status_code, answer.json()["code"]) == (403, "cross_site_refused")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Sec-Fetch-Site", "same-origin"), ("Origin", "https://elsewhere.example")],
        [("Sec-Fetch-Site", "none")],
        [("Origin", "http://localhost")],
        [("Sec-Fetch-Site", "cross-site"), ("Origin", "https://app.example")],
    ],
)
async def test_a_change_by_a_program_or_a_page_that_may_is_served(headers: list[tuple[str, str]]) -> None:
    assert (await asked("POST", *headers, origins=("https://app.example",))).status_code == 200


async def test_a_change_for_any_page_is_served_where_all_origins_may() -> None:
    headers = [("Sec-Fetch-Site", "cross-site"), ("Origin", "https://any.example")]
    assert (await asked("POST", *headers, origins=("*",))).status_code == 200


async def test_a_link_from_another_site_is_served() -> None:
    assert (await asked("GET", ("Sec-Fetch-Site", "cross-site"))).status_code == 200
