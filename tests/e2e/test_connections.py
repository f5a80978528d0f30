"""Clients that hold connections without using them keep nobody out."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from testing.program import Program, Size

DESCRIPTORS = 512


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A program whose processes may have few open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    program = Program(tmp_path_factory.mktemp("small"), size=Size())
    # Children inherit it; this process opens that many connections itself.
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))
    try:
        program.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    yield program
    program.stop()


def test_more_silent_connections_than_descriptors_leave_the_service_answering(small: Program) -> None:
    with ExitStack() as stack:
        for _ in range(600):
            stack.enter_context(socket.create_connection(("127.0.0.1", small.port)))
        for path in ("/health/live", "/health/ready", "/v1/models"):
            assert httpx.get(small.url + path).status_code == 200
    log = small.log.read_text()
    assert "few_descriptors" in log
    assert "gave_way" in log


def test_a_header_without_end_is_refused_and_takes_no_memory(small: Program) -> None:
    api = small.process("api")
    before = api.memory_info().rss
    with socket.create_connection(("127.0.0.1", small.port)) as client:
        client.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Endless: ")
        with pytest.raises(ConnectionError):
            client.sendall(b"a" * (195 << 20))
    assert api.memory_info().rss - before < 10 << 20
    refused = 'vidtr_connections_closed_total{reason="headers_too_large"} 1.0'
    assert refused in httpx.get(f"{small.url}/metrics").text
