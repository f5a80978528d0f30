"""`vidtr classify` against what may stand before the service: proxies with pages of their own, other servers."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.program import Program

PAGE = b"<html><h1>No</h1></html>"


class Gateway(http.server.ThreadingHTTPServer):
    """Answers every request with one page."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.status = 200
        self.headers: dict[str, str] = {}
        self.requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Page(http.server.BaseHTTPRequestHandler):
    server: Gateway

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests += 1
        self.send_response(self.server.status)
        for name, value in {"Content-Type": "text/html", **self.server.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def classify(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service.cli.main", "classify", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(
    ("status", "code", "exit_status"),
    [
        (200, "unexpected_answer", 3),
        (308, "unexpected_answer", 3),
        (401, "unauthorized", 1),
        (403, "forbidden", 1),
        (404, "not_found", 1),
        (408, "upload_timeout", 3),
        (413, "upload_too_large", 1),
        (429, "quota_exceeded", 3),
        (502, "backend_unavailable", 3),
    ],
)
def test_a_page_is_named_and_a_later_run_asks_again(
    program: Program, gateway: Gateway, clip: Path, tmp_path: Path, status: int, code: str, exit_status: int
) -> None:
    gateway.status, gateway.headers = status, {"Location": "https://video.example/"}
    output = tmp_path / "answers.jsonl"
    arguments = (clip, "--jsonl", "-o", output, "--retry-for-s", "0")
    done = classify(*arguments, "--server", gateway.url)
    assert (done.returncode, json.loads(output.read_text())["error"]["code"]) == (exit_status, code), done.stderr
    assert "Traceback" not in done.stderr
    again = classify(*arguments, "--server", program.url, "--resume")
    assert (again.returncode, json.loads(output.read_text())["status"]) == (0, "succeeded"), again.stderr


def test_a_page_that_asks_for_a_pause_is_asked_again_after_it(gateway: Gateway, clip: Path) -> None:
    gateway.status, gateway.headers = 429, {"Retry-After": "1"}
    done = classify(clip, "--retry-for-s", "4", "--server", gateway.url)
    assert done.returncode == 3
    assert gateway.requests > 1


def test_the_target_of_a_redirect_is_named(gateway: Gateway, clip: Path) -> None:
    gateway.status, gateway.headers = 307, {"Location": "https://video.example/v1/classify"}
    assert "https://video.example/v1/classify" in classify(clip, "--server", gateway.url).stderr


@pytest.mark.parametrize("server", ["", "127.0.0.1:8080", "ftp://video.example", "http://"])
def test_an_address_that_is_none_is_wrong_usage(clip: Path, server: str) -> None:
    done = classify(clip, "--server", server)
    assert done.returncode == 2
    assert "--server" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_proxy_that_cannot_be_used_is_wrong_usage(clip: Path) -> None:
    done = classify(clip, "--server", "http://video.example", ALL_PROXY="socks5://127.0.0.1:1")
    assert done.returncode == 2
    assert "socks" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_name_that_is_no_text_is_written_as_text_and_found_again(
    program: Program, clip: Path, tmp_path: Path
) -> None:
    odd = Path(os.fsdecode(bytes(tmp_path / "odd") + b"\xff\xfe[b].mp4"))
    odd.write_bytes(clip.read_bytes())
    output = tmp_path / "answers.csv"
    arguments = (odd, "--csv", "-o", output, "--server", program.url)
    done = classify(*arguments, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert r"odd\xff\xfe[b].mp4" in output.read_text(encoding="utf-8")
    assert "1 of 1 files" in classify(*arguments, "--resume").stderr
