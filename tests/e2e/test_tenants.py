"""Callers without a key, at two addresses: neither learns of, gets or takes what the other sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from testing.program import Program, Size, upload


@pytest.fixture(scope="module")
def open_to_others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    program = Program(
        tmp_path_factory.mktemp("open"),
        "--host",
        "0.0.0.0",  # noqa: S104 - what the test is about
        size=Size(),
        VIDTR_ANONYMOUS="allow",
        VIDTR_RESULT_CACHE_S="60",
        VIDTR_TORCH_THREADS="1",
    )
    with program:
        yield program


def at(program: Program, address: str) -> httpx.Client:
    return httpx.Client(base_url=program.url, timeout=60, transport=httpx.HTTPTransport(local_address=address))


def test_an_earlier_result_is_found_by_its_own_sender_alone(open_to_others: Program, clip: Path) -> None:
    with at(open_to_others, "127.0.0.1") as alice, at(open_to_others, "127.0.0.2") as bob:
        first, again = upload(alice, clip).json()["id"], upload(alice, clip)
        other = upload(bob, clip)
    assert (again.headers.get("X-Cache"), again.json()["id"]) == ("hit", first)
    assert other.json()["id"] != first
    assert other.headers.get("X-Cache") != "hit"


def test_an_idempotency_key_belongs_to_its_sender(open_to_others: Program, clip: Path, tmp_path: Path) -> None:
    ids = []
    for address in ("127.0.0.1", "127.0.0.2", "127.0.0.1"):
        with at(open_to_others, address) as client:
            client.headers["Idempotency-Key"] = "the-same"
            ids.append(upload(client, clip, top_k=3).json()["id"])
    assert ids[0] == ids[2] != ids[1]


def test_a_job_is_erased_by_its_own_sender_alone(open_to_others: Program, clip: Path) -> None:
    with at(open_to_others, "127.0.0.1") as alice, at(open_to_others, "127.0.0.2") as bob:
        job = f"/v1/jobs/{upload(alice, clip, top_k=2).json()['id']}"
        assert bob.delete(job).status_code == 404
        assert bob.get(job).status_code == alice.get(job).status_code == 200
        assert alice.delete(job).status_code == 204
        assert alice.get(job).status_code == 410


def test_a_live_stream_is_sent_and_ended_by_its_own_sender_alone(open_to_others: Program) -> None:
    with at(open_to_others, "127.0.0.1") as alice, at(open_to_others, "127.0.0.2") as bob:
        begun = alice.post("/v1/streams", json={}).json()
        stream = f"/v1/streams/{begun['id']}"
        for refused in (bob.post(begun["media_url"], content=b"x"), bob.delete(stream)):
            assert (refused.status_code, refused.json()["code"]) == (404, "unknown_stream")
        assert bob.get(stream).json()["received"] == alice.get(stream).json()["received"] == 0
        assert alice.delete(stream).status_code == 204
        assert alice.get(stream).json()["reason"] == "deleted"
