"""HTTP as clients of every kind speak it: what they may leave open, repeat, quote, compress and close."""

from __future__ import annotations

import gzip
import json
import socket
from pathlib import Path

import httpx
import pytest

from testing.program import Program, upload
from tests.e2e.test_job_events import follow, submitted

RAW = {"Content-Type": "application/octet-stream"}


def exchange(program: Program, request: bytes, *, half_closed: bool = False) -> tuple[int, bytes]:
    """Status and body of the final answer to `request`, which has to end its connection."""
    with socket.create_connection(("127.0.0.1", program.port), timeout=60) as connection:
        connection.sendall(request)
        if half_closed:
            connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    while answer.startswith(b"HTTP/1.1 100 "):
        answer = answer.partition(b"\r\n\r\n")[2]
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def posted(clip: Path, *headers: str) -> bytes:
    video = clip.read_bytes()
    lines = ["POST /v1/classify HTTP/1.1", "Host: localhost", f"Content-Length: {len(video)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + video


# --- options -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e309", "Infinity"])
@pytest.mark.parametrize("option", ["start", "end", "min_score", "stride", "top_k"])
def test_a_number_that_is_not_finite_is_refused(client: httpx.Client, clip: Path, option: str, value: str) -> None:
    response = upload(client, clip, **{option: value})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_option")
    assert option in response.json()["detail"]


def test_a_start_after_any_end_is_refused_in_a_stream_too(client: httpx.Client, clip: Path) -> None:
    accept = {**RAW, "Accept": "text/event-stream"}
    response = client.post("/v1/classify", params={"start": "1e308"}, content=clip.read_bytes(), headers=accept)
    problem = json.loads(response.text.partition("event: problem\ndata: ")[2].partition("\n")[0])
    assert problem["status"] == 422


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "1_0", "\u0661", "few"])
def test_a_wrong_number_of_windows_is_told_all_that_may_stand_there(
    client: httpx.Client, clip: Path, value: str
) -> None:
    detail = upload(client, clip, windows=value).json()["detail"]
    assert detail == "Option 'windows' is not valid: Input should be 'auto', 'all' or a whole number from 1 on."


@pytest.mark.parametrize("option", ["version", "top_k", "crops", "start", "model"])
def test_digits_of_other_scripts_are_no_digits(client: httpx.Client, clip: Path, option: str) -> None:
    response = upload(client, clip, **{option: "\u0661"})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_option")


@pytest.mark.parametrize("query", ["top_k=1&top_k=2", "windows=1&windows=1"])
def test_an_option_that_is_given_twice_is_refused(client: httpx.Client, clip: Path, query: str) -> None:
    response = client.post(f"/v1/classify?{query}", content=clip.read_bytes(), headers=RAW)
    assert (response.status_code, response.json()["actual"]) == (422, 2)


def test_an_option_of_a_list_that_is_given_twice_is_refused(client: httpx.Client) -> None:
    assert client.get("/v1/jobs?limit=1&limit=2").status_code == 422


# --- headers -----------------------------------------------------------------------------------------------------


def test_a_preference_in_a_second_header_counts(program: Program, clip: Path) -> None:
    request = posted(clip, "Prefer: handling=lenient", "Prefer: respond-async", "Connection: close")
    assert exchange(program, request)[0] == 202


def test_an_event_stream_is_not_sent_to_those_who_would_rather_have_the_answer(
    client: httpx.Client, clip: Path
) -> None:
    accept = {**RAW, "Accept": "application/json, text/event-stream;q=0.1"}
    response = client.post("/v1/classify", content=clip.read_bytes(), headers=accept)
    assert response.json()["status"] == "succeeded"


@pytest.mark.parametrize("coding", ["gzip", "br", "x-foo", "identity, gzip"])
def test_a_compressed_body_is_refused_as_such(client: httpx.Client, clip: Path, coding: str) -> None:
    content = gzip.compress(clip.read_bytes())
    response = client.post("/v1/classify", content=content, headers={**RAW, "Content-Encoding": coding})
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")
    assert response.json()["limit"] == "identity"


def test_a_body_that_is_said_to_be_as_it_is_is_taken(client: httpx.Client, clip: Path) -> None:
    headers = {**RAW, "Content-Encoding": "identity"}
    assert client.post("/v1/classify", content=clip.read_bytes(), headers=headers).status_code == 200


def test_a_compressed_transfer_is_refused(program: Program, clip: Path) -> None:
    head = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
    status, body = exchange(program, head + b"1\r\na\r\n0\r\n\r\n", half_closed=True)
    assert (status, json.loads(body)["actual"]) == (415, "gzip")


def test_a_form_with_a_preamble_and_blanks_after_its_boundary_is_taken(client: httpx.Client, clip: Path) -> None:
    head = b'--x \t\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
    form = b"This is a message in the MIME format.\r\n" + head + clip.read_bytes() + b"\r\n--x-- \r\n"
    response = client.post("/v1/classify", content=form, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert response.status_code == 200


# --- methods and connections -------------------------------------------------------------------------------------


def test_head_is_answered_wherever_get_is(client: httpx.Client, clip: Path) -> None:
    job = upload(client, clip).json()["id"]
    begun = client.post("/v1/uploads", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "1"})
    names = {
        "{batch_id}": job,
        "{stream_id}": client.post("/v1/streams", json={}).json()["id"],
        "{job_id}": job,
        "{name}": client.get("/v1/models").json()["models"][0]["name"],
        "{upload_id}": begun.headers["Location"].rpartition("/")[2],
    }
    paths = [path for path, methods in client.get("/openapi.json").json()["paths"].items() if "get" in methods]
    assert len(paths) >= 8
    for path in [*paths, "/", "/docs", "/static/app.js"]:
        # This program fetches no videos, so it has no batches.
        status = 404 if "{batch_id}" in path else 200
        for name, value in names.items():
            path = path.replace(name, value)
        head = client.head(path)
        assert (path, head.status_code, head.content) == (path, status, b"")
        assert head.headers["X-Request-Id"]


def test_a_client_that_closes_its_side_after_the_upload_gets_its_answer(program: Program, clip: Path) -> None:
    status, body = exchange(program, posted(clip), half_closed=True)
    assert (status, json.loads(body)["status"]) == (200, "succeeded")


# --- events ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last_id", ["99999999999999-0", "9999999999999999999-9999999999999999999"])
def test_after_the_end_of_a_job_nothing_comes_whatever_was_received_last(
    client: httpx.Client, clip: Path, last_id: str
) -> None:
    job = upload(client, clip).json()["id"]
    assert client.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": last_id}).status_code == 204


def test_an_id_that_no_event_can_have_is_refused(client: httpx.Client, clip: Path) -> None:
    job = upload(client, clip).json()["id"]
    response = client.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": "18446744073709551616-0"})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_option")


def test_a_follower_of_a_running_job_with_an_id_from_the_future_gets_its_end(client: httpx.Client, clip: Path) -> None:
    job = submitted(client, clip)
    status = client.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": "99999999999999-0"})
    if status.status_code == 200:
        assert "event: succeeded" in status.text
    assert follow(client, job)[-1]["event"] == "succeeded"
