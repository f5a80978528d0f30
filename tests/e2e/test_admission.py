"""What is decided before a body is read, and what becomes of requests that are repeated, cancelled or abandoned."""

import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from testing.program import Program, upload


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A program with room for 20 clips and little patience with slow senders."""
    program = Program(
        tmp_path_factory.mktemp("narrow"),
        VIDTR_MAX_QUEUE_CLIPS="20",
        VIDTR_UPLOAD_IDLE_S="0.5",
        VIDTR_TORCH_THREADS="1",
    )
    with program:
        yield program


def request_head(program: Program, query: str = "", *headers: str, length: int = 10_000_000) -> bytes:
    lines = [
        f"POST /v1/classify{query} HTTP/1.1",
        f"Host: 127.0.0.1:{program.port}",
        "Content-Type: video/mp4",
        f"Content-Length: {length}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def answer(connection: socket.socket) -> tuple[int, http.client.HTTPMessage, dict[str, object]]:
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, response.headers, json.loads(response.read())


def test_a_full_queue_is_said_before_the_body_is_sent(narrow: Program) -> None:
    with socket.create_connection(("127.0.0.1", narrow.port), timeout=10) as connection:
        connection.sendall(request_head(narrow, "?windows=all"))
        status, headers, problem = answer(connection)
    assert (status, problem["code"]) == (503, "queue_full")
    assert (problem["limit"], problem["actual"]) == (20, 200)
    assert int(headers["Retry-After"]) >= 1
    assert headers["Connection"] == "close"


def test_a_client_that_asks_first_is_refused_without_being_told_to_go_on(narrow: Program) -> None:
    with socket.create_connection(("127.0.0.1", narrow.port), timeout=10) as connection:
        connection.sendall(request_head(narrow, "?windows=all", "Expect: 100-continue"))
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert received.startswith(b"HTTP/1.1 503 ")
    assert b"100 Continue" not in received


def test_a_client_that_asks_first_is_told_to_go_on_where_there_is_room(narrow: Program, clip: Path) -> None:
    body = clip.read_bytes()
    with socket.create_connection(("127.0.0.1", narrow.port), timeout=30) as connection:
        connection.sendall(request_head(narrow, "", "Expect: 100-continue", length=len(body)))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(body)
        status, _, _ = answer(connection)
    assert status == 200


def test_a_client_that_sends_on_regardless_still_reads_its_refusal(narrow: Program) -> None:
    with narrow.client() as client:
        response = client.post(
            "/v1/classify", params={"windows": "all"}, content=bytes(900_000), headers={"Content-Type": "video/mp4"}
        )
    assert (response.status_code, response.json()["code"]) == (503, "queue_full")


def test_a_sender_that_pauses_too_long_is_cut_off(narrow: Program) -> None:
    with socket.create_connection(("127.0.0.1", narrow.port), timeout=10) as connection:
        connection.sendall(request_head(narrow) + bytes(1000))
        status, _, problem = answer(connection)
    assert (status, problem["code"], problem["limit"]) == (408, "upload_timeout", 0.5)


def post(client: httpx.Client, clip: Path, key: str, **options: object) -> httpx.Response:
    headers = {"Idempotency-Key": key, "Content-Type": "video/mp4"}
    params = {name: str(value) for name, value in options.items()}
    return client.post("/v1/classify", content=clip.read_bytes(), headers=headers, params=params)


def test_a_repeated_request_gets_the_same_job(client: httpx.Client, clip: Path) -> None:
    key = uuid4().hex
    first, second = post(client, clip, key), post(client, clip, key)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json() == second.json()


def test_a_key_with_other_options_or_another_video_is_refused(client: httpx.Client, clip: Path, tmp_path: Path) -> None:
    key = uuid4().hex
    post(client, clip, key)
    other = tmp_path / "other.mp4"
    other.write_bytes(clip.read_bytes() + b"x")
    for response in (post(client, clip, key, top_k=1), post(client, other, key)):
        assert (response.status_code, response.json()["code"]) == (422, "idempotency_key_reused")


def test_a_key_whose_request_is_still_uploading_is_a_conflict_and_is_free_once_that_breaks_off(
    program: Program, client: httpx.Client, clip: Path
) -> None:
    key = uuid4().hex
    with socket.create_connection(("127.0.0.1", program.port), timeout=10) as connection:
        connection.sendall(request_head(program, "", f"Idempotency-Key: {key}", "Expect: 100-continue"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(bytes(1000))
        response = post(client, clip, key)
        assert (response.status_code, response.json()["code"]) == (409, "idempotency_in_progress")
        assert response.headers["Retry-After"]
    while (response := post(client, clip, key)).status_code == 409:
        time.sleep(0.05)
    assert response.status_code == 200


def test_a_request_that_fails_leaves_its_key_free(client: httpx.Client, clip: Path, tmp_path: Path) -> None:
    key = uuid4().hex
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clip.read_bytes()[:200])
    assert post(client, broken, key).status_code in (415, 422)
    assert post(client, clip, key).status_code == 200


def test_a_deleted_job_is_gone_and_says_so(client: httpx.Client, clip: Path) -> None:
    job = upload(client, clip).json()["id"]
    assert client.delete(f"/v1/jobs/{job}").status_code == 204
    assert client.delete(f"/v1/jobs/{job}").status_code == 204
    response = client.get(f"/v1/jobs/{job}")
    assert (response.status_code, response.json()["code"]) == (410, "job_deleted")


def test_deleting_an_unknown_job_is_a_404(client: httpx.Client) -> None:
    response = client.delete("/v1/jobs/" + "0" * 32)
    assert (response.status_code, response.json()["code"]) == (404, "unknown_job")
