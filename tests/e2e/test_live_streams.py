"""Live streams that are sent: what is said while they come is what is said of their recording."""

from __future__ import annotations

import os
import queue
import random
import threading
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Received
from tests.e2e.live_streams import (
    begin,
    check_delivered,
    check_same,
    count_dropped,
    events,
    in_pieces,
    recorded,
    told_by_webhook,
    windows_of,
)

LOSSY_STREAMS = int(os.environ.get("VIDTR_LOSSY_STREAMS", "2"))


def test_a_stream_in_one_body_has_the_answers_of_its_recording(client: httpx.Client, recording: bytes) -> None:
    stream = begin(client)
    assert (stream["state"], stream["windows"]) == ("waiting", 0)
    status = client.post(stream["media_url"], content=in_pieces(recording), timeout=60)
    assert status.status_code == 200, status.text
    told = events(client, stream)
    assert [told[0]["state"], told[-1]["state"], told[-1]["reason"]] == ["started", "ended", "end"]
    windows = windows_of(told)
    dropped = count_dropped(told)
    expected = recorded(client, recording)
    assert len(windows) + dropped >= len(expected) - 2
    assert windows
    check_same(windows, expected)
    assert [event["number"] for event in windows] == sorted({event["number"] for event in windows})
    stands = client.get(f"/v1/streams/{stream['id']}").json()
    assert stands["state"] == "ended"
    assert (stands["windows"], stands["dropped"], stands["received"]) == (len(windows), dropped, len(recording))
    # A follower that was away gets the rest.
    assert [event["id"] for event in events(client, stream, told[2]["id"])] == [event["id"] for event in told[3:]]


def with_losses(recording: bytes, seed: int) -> bytes:
    """The recording without one to three spans of it, of any length up to a tenth and at any byte."""
    drawn, left = random.Random(seed), bytearray(recording)
    for _ in range(drawn.randint(1, 3)):
        at = drawn.randrange(len(left))
        del left[at : at + drawn.randint(1, len(recording) // 10)]
    return bytes(left)


@pytest.mark.parametrize("seed", range(LOSSY_STREAMS))
def test_a_stream_with_losses_has_the_answers_of_the_recording_of_what_came(
    client: httpx.Client, recording: bytes, seed: int
) -> None:
    came = with_losses(recording, seed)
    stream = begin(client)
    assert client.post(stream["media_url"], content=in_pieces(came, seed), timeout=60).status_code == 200
    windows = windows_of(events(client, stream))
    assert windows
    check_same(windows, recorded(client, came))


def test_a_stream_comes_in_pieces_and_a_piece_may_come_twice(client: httpx.Client, recording: bytes) -> None:
    stream = begin(client)
    cut = len(recording) // 3
    pieces = [(0, cut), (cut - 500, 2 * cut), (2 * cut, len(recording))]
    for start, stop in pieces:
        status = client.post(stream["media_url"], params={"offset": start}, content=recording[start:stop], timeout=60)
        assert status.json()["received"] == stop
    missing = client.post(stream["media_url"], params={"offset": len(recording) + 1}, content=b"x")
    assert (missing.status_code, missing.json()["code"]) == (409, "stream_offset_mismatch")
    client.post(stream["media_url"], params={"offset": len(recording), "last": "true"}, content=b"", timeout=60)
    windows = windows_of(events(client, stream))
    check_same(windows, recorded(client, recording))
    ended = client.post(stream["media_url"], params={"offset": len(recording)}, content=b"x")
    assert (ended.status_code, ended.json()["code"]) == (410, "stream_ended")


def test_a_deleted_stream_ends_its_events_and_refuses_more(client: httpx.Client, recording: bytes) -> None:
    stream = begin(client)
    client.post(stream["media_url"], params={"offset": 0}, content=recording[:50_000], timeout=60)
    told: list[dict[str, Any]] = []
    following = threading.Thread(target=lambda: told.extend(events(client, stream)))
    following.start()
    assert client.delete(f"/v1/streams/{stream['id']}").status_code == 204
    following.join(timeout=60)
    assert told[-1]["reason"] == "deleted"
    assert client.get(f"/v1/streams/{stream['id']}").json()["reason"] == "deleted"
    assert client.delete(f"/v1/streams/{stream['id']}").status_code == 204


def test_every_event_of_a_stream_reaches_its_webhook(
    client: httpx.Client, recording: bytes, receiver: tuple[str, queue.Queue[Received]]
) -> None:
    url, received = receiver
    stream = begin(client, webhook=url)
    client.post(stream["media_url"], content=in_pieces(recording), timeout=60)
    [delivered] = told_by_webhook(received, 1).values()
    check_delivered(delivered, events(client, stream))
    assert delivered[0]["type"] == "stream.started"
    assert "stream.window" in {event["type"] for event in delivered}


def test_what_is_no_video_ends_a_stream_with_its_code(client: httpx.Client) -> None:
    stream = begin(client)
    client.post(stream["media_url"], content=b"no video" * 4000, timeout=60)
    assert events(client, stream)[-1]["reason"] == "container_not_allowed"


def test_a_stream_that_cannot_be_is_refused(client: httpx.Client) -> None:
    for options, code in (
        ({"step": 0.01}, "invalid_option"),
        ({"step": 1000}, "invalid_option"),
        ({"model": "none"}, "unknown_model"),
        ({"colour": 1}, "invalid_option"),
        ({"source": {"url": "https://example.com/live.m3u8"}}, "source_not_allowed"),
        ({"webhook": "file:///etc/passwd"}, "invalid_option"),
    ):
        assert client.post("/v1/streams", json=options).json()["code"] == code
    unknown = client.get("/v1/streams/" + 32 * "0")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_stream")
