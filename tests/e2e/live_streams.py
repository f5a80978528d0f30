"""What tests of live streams ask and check: sessions, their events and webhooks, and the same of a recording."""

from __future__ import annotations

import json
import queue
import random
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from service.api.webhook_message import signing_secret
from tests.e2e.conftest import WEBHOOK_SECRET, Received

STEP = 0.5
SCORE_TOLERANCE = 1e-5


def begin(client: httpx.Client, **options: Any) -> dict[str, Any]:
    answer = client.post("/v1/streams", json={"step": STEP, **options})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/v1/streams/{found['id']}"
    return found


def events(client: httpx.Client, stream: dict[str, Any], after: str = "") -> list[dict[str, Any]]:
    """All events of a stream that ends, each with its id and kind."""
    found: list[dict[str, Any]] = []
    fields: dict[str, str] = {}
    headers = {"Last-Event-ID": after} if after else {}
    with client.stream("GET", stream["events_url"], headers=headers, timeout=60) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            fields[name] = value
            if not line and "data" in fields:
                found.append({"id": fields["id"], "kind": fields["event"], **json.loads(fields["data"])})
            if not line:
                fields = {}
    return found


def in_pieces(data: bytes, seed: int = 1) -> Iterator[bytes]:
    sizes, at = random.Random(seed), 0
    while at < len(data):
        size = sizes.randint(1, 20_000)
        yield data[at : at + size]
        at += size


def recorded(client: httpx.Client, data: bytes) -> list[dict[str, Any]]:
    answer = client.post("/v1/classify", params={"windows": "all", "stride": STEP}, content=data, timeout=60)
    assert answer.status_code == 200, answer.text
    windows: list[dict[str, Any]] = answer.json()["windows"]
    return windows


def check_same(told: list[dict[str, Any]], windows: list[dict[str, Any]]) -> None:
    """Every window that was told of is one of the recording, with its times, labels, scores and attention."""
    by_start = {window["start_s"]: window for window in windows}
    for event in told:
        window = by_start[event["start_s"]]
        assert event["end_s"] == window["end_s"]
        assert [one["time_s"] for one in event["attention"]] == [one["time_s"] for one in window["attention"]]
        scores, expected = ({one["label"]: one["score"] for one in side["predictions"]} for side in (event, window))
        assert scores == pytest.approx(expected, abs=SCORE_TOLERANCE)


def count_dropped(told: list[dict[str, Any]]) -> int:
    """The windows that were left out."""
    return sum(event["windows"] for event in told if event["kind"] == "dropped")


def windows_of(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The windows that were answered."""
    return [event for event in told if event["kind"] == "window"]


def check_without_gaps(told: list[dict[str, Any]]) -> None:
    """No window comes twice, and what is missing between two of them was told."""
    spans = [
        (event["start_s"], event["end_s"], "window")
        if event["kind"] == "window"
        else (event["from_s"], event["to_s"], "dropped")
        for event in told
        if event["kind"] != "state"
    ]
    starts = [start_s for start_s, _, kind in spans if kind == "window"]
    assert starts == sorted(set(starts))
    for before, after in pairwise(spans):
        assert after[0] <= before[1] + 1e-6


def told_by_webhook(received: queue.Queue[Received], streams: int) -> dict[str, list[dict[str, Any]]]:
    """What the messages say of each stream, once all have told of their end; what came again is dropped by its id."""
    found: dict[str, list[dict[str, Any]]] = {}
    known: set[str] = set()
    while streams:
        headers, body = received.get(timeout=60)
        message = Webhook(signing_secret(WEBHOOK_SECRET, "")).verify(body, headers)
        if headers["webhook-id"] not in known:
            known.add(headers["webhook-id"])
            said = message["data"]
            assert headers["webhook-id"] == f"{said['id']}-{said['event_id']}"
            found.setdefault(said["id"], []).append({"type": message["type"], **said})
            streams -= message["type"] == "stream.ended"
    return found


def check_delivered(delivered: list[dict[str, Any]], told: list[dict[str, Any]]) -> None:
    """Each event was delivered, in its order."""
    assert [event["sequence"] for event in delivered] == list(range(1, len(told) + 1))
    assert [{"id": event["event_id"], "kind": event["event"], **event["data"]} for event in delivered] == told
