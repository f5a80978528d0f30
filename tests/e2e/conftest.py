import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
import redis
from playwright.sync_api import Browser

from testing.program import SIZE, Program, Size
from testing.videos import write_video
from tests.e2e.browser import chromium
from tests.fixtures.keyspace import check_settled

WEBHOOK_SECRET = "whsec_" + 10 * "c2Vj"

Received = tuple[dict[str, str], bytes]


@pytest.fixture(autouse=True)
def nothing_is_left_in_redis() -> Iterator[None]:
    """Whatever a test does, what it leaves in the Redis of a program expires."""
    yield
    for program in Program.running:
        if program.alive:
            with redis.Redis.from_url(program.redis_url) as server:
                for keys in program.keys:
                    check_settled(server, keys)


@pytest.fixture(scope="session", params=[SIZE, pytest.param(Size(2, 2), marks=pytest.mark.slow)], ids=str)
def program(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Program]:
    """What most tests ask: once as `vidtr up` is, and once with two API processes and two workers over one Redis."""
    program = Program(
        folder := tmp_path_factory.mktemp("program"),
        VIDTR_SPOOL_DIR=str(folder / "spool"),
        size=request.param,
        VIDTR_MAX_UPLOAD_BYTES="20000000",
        VIDTR_WEBHOOK_SECRET=WEBHOOK_SECRET,
        VIDTR_WEBHOOK_PRIVATE_TARGETS="true",
    )
    with program:
        yield program


@pytest.fixture
def client(program: Program) -> Iterator[httpx.Client]:
    with program.client() as client:
        yield client


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", 75, fps=25, size=(96, 64))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What a camera sends in eight seconds."""
    path = tmp_path_factory.mktemp("recording") / "camera.ts"
    return write_video(path, 200, fps=25, size=(96, 64), gop=25).read_bytes()


@pytest.fixture
def receiver() -> Iterator[tuple[str, "queue.Queue[Received]"]]:
    """The URL of an HTTP server, and the headers and bodies that it gets."""
    received: queue.Queue[Received] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.put((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook", received
    server.shutdown()
    thread.join()
    server.server_close()
