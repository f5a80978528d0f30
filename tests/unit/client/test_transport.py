"""How the client connects where the environment names a proxy."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import httpx
import pytest

from service.client import AsyncClient, Client, Retry
from service.client.transport import is_loopback, proxy_of
from service.errors import NotFound

ONCE = Retry(for_s=0)


class Server(http.server.ThreadingHTTPServer):
    """Answers 404 and knows what it was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        pass


def serving() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


service = pytest.fixture(name="service")(serving)
proxy = pytest.fixture(name="proxy")(serving)


@pytest.fixture(autouse=True)
def behind_a_proxy(proxy: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)


def test_a_server_on_this_machine_is_asked_without_the_proxy(service: Server, proxy: Server) -> None:
    with Client(service.url, retry=ONCE) as client, pytest.raises(NotFound):
        client.models()
    assert (service.asked, proxy.asked) == (["/v1/models"], [])


async def test_so_it_is_asynchronously(service: Server, proxy: Server) -> None:
    async with AsyncClient(service.url, retry=ONCE) as client:
        with pytest.raises(NotFound):
            await client.models()
    assert (service.asked, proxy.asked) == (["/v1/models"], [])


def test_another_server_is_asked_through_the_proxy(proxy: Server) -> None:
    with Client("http://video.example", retry=ONCE) as client, pytest.raises(NotFound):
        client.models()
    assert proxy.asked == ["http://video.example/v1/models"]


def test_the_page_of_a_proxy_of_the_environment_names_the_proxy(proxy: Server) -> None:
    with Client("http://video.example", retry=ONCE) as client, pytest.raises(NotFound, match=proxy.url):
        client.models()


def test_a_proxy_of_the_environment_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:9")
    with Client("http://video.example", retry=ONCE) as client, pytest.raises(httpx.ConnectError) as raised:
        client.models()
    assert "http://127.0.0.1:9" in str(raised.value)
    assert "secret" not in str(raised.value)


async def test_events_through_a_proxy_of_the_environment_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "127.0.0.1:9")
    async with AsyncClient("http://video.example", retry=ONCE) as client:
        with pytest.raises(httpx.ConnectError, match=r"http://127\.0\.0\.1:9"):
            await anext(client.events("0" * 32))
    with Client("http://video.example", retry=ONCE) as plain, pytest.raises(httpx.ConnectError, match="NO_PROXY"):
        next(plain.events("0" * 32))


@pytest.mark.parametrize("host", ["video.example", "127.0.0.1"])
def test_a_server_that_is_asked_itself_names_no_proxy(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("no_proxy", "example")
    assert proxy_of(f"http://{host}") is None


def test_a_server_on_this_machine_needs_no_support_for_the_proxy_of_others(
    service: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1")
    with Client(service.url, retry=ONCE) as client, pytest.raises(NotFound):
        client.models()


@pytest.mark.parametrize("host", ["localhost", "video.localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_a_loopback_address_is_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["video.example", "10.0.0.1", "localhost.example", "", "2001:db8::1"])
def test_another_address_is_another_machine(host: str) -> None:
    assert not is_loopback(host)
