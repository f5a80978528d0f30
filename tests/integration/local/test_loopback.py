"""Whether a port is free, and whether a server there answers, whatever proxy the environment names."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator

import pytest

from service.local.loopback import answers, url, why_not_free
from service.local.process import free_ports


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(200 if self.path == "/well" else 503)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_no_proxy_is_asked(port: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert answers("127.0.0.1", port, "/well")


def test_only_200_is_an_answer(port: int) -> None:
    assert not answers("127.0.0.1", port, "/ill")


def test_where_nothing_listens_is_no_answer() -> None:
    assert not answers("127.0.0.1", free_ports(1)[0], "/well")


def test_what_does_not_speak_http_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not answers("127.0.0.1", server.getsockname()[1], "/well", timeout_s=0.1)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])  # noqa: S104 - nothing is served
def test_a_port_of_another_server_is_not_free(port: int, host: str) -> None:
    assert why_not_free(host, port) == "Address already in use"


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])  # noqa: S104 - nothing is served
def test_a_free_port_is_free_and_stays_so(host: str) -> None:
    [free] = free_ports(1)
    assert why_not_free(host, free) is None
    assert why_not_free(host, free) is None


def test_a_host_that_is_not_this_machine_has_no_free_port() -> None:
    assert why_not_free("192.0.2.1", free_ports(1)[0]) is not None
    assert why_not_free("nobody.invalid", free_ports(1)[0]) is not None


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),  # noqa: S104 - nothing is served
        ("::1", "http://[::1]:80"),
        ("::", "http://[::1]:80"),
        ("video.example", "http://video.example:80"),
    ],
)
def test_an_address_can_be_opened(host: str, expected: str) -> None:
    assert url(host, 80) == expected
