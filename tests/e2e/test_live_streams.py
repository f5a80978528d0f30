"""Live streams: what is said while they come is what is said of their recording."""

from __future__ import annotations

import json
import os
import queue
import random
import signal
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from standardwebhooks.webhooks import Webhook

from service.api.webhook_message import signing_secret
from testing.program import Program, Size
from testing.range_server import RangeServer, Served
from testing.videos import numbered, remux, write_video
from tests.e2e.conftest import WEBHOOK_SECRET, Received
from tests.fixtures.rtsp_server import rtsp_server
from tests.fixtures.srt_listener import listener, needs_tool

STEP = 0.5
SCORE_TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("recording") / "camera.ts"
    return write_video(path, 200, fps=25, size=(96, 64), gop=25).read_bytes()


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


def test_a_stream_in_one_body_has_the_answers_of_its_recording(client: httpx.Client, recording: bytes) -> None:
    stream = begin(client)
    assert (stream["state"], stream["windows"]) == ("waiting", 0)
    status = client.post(stream["media_url"], content=in_pieces(recording), timeout=60)
    assert status.status_code == 200, status.text
    told = events(client, stream)
    assert [told[0]["state"], told[-1]["state"], told[-1]["reason"]] == ["started", "ended", "end"]
    windows = [event for event in told if event["kind"] == "window"]
    dropped = sum(event["windows"] for event in told if event["kind"] == "dropped")
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


def test_a_stream_with_losses_has_the_answers_of_the_recording_of_what_came(
    client: httpx.Client, recording: bytes
) -> None:
    damaged = recording[3000:20_000] + recording[23_000:]
    stream = begin(client)
    assert client.post(stream["media_url"], content=in_pieces(damaged), timeout=60).status_code == 200
    windows = [event for event in events(client, stream) if event["kind"] == "window"]
    assert windows
    check_same(windows, recorded(client, damaged))


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
    windows = [event for event in events(client, stream) if event["kind"] == "window"]
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


class Camera:
    """A camera that is watched by HLS: a segment a second, of which the last few are in its playlist."""

    def __init__(self, server: RangeServer, folder: Path, seconds: int) -> None:
        self._server = server
        self.segments = []
        for n in range(seconds):

            def drawn(number: int, width: int, height: int, first: int = 25 * n) -> NDArray[np.uint8]:
                return numbered(number + first, width, height)

            path = write_video(folder / f"{n}.mp4", 25, fps=25, size=(96, 64), gop=25, b_frames=0, draw=drawn)
            self.segments.append(remux(path, folder / f"{n}.ts", float(n)).read_bytes())
            server.serve(f"/{n}.ts", Served(self.segments[-1]))
        self.url = f"{server.url}/camera.m3u8"
        self._filming = threading.Thread(target=self._film, daemon=True)
        self._off = threading.Event()

    def _film(self) -> None:
        for n in range(len(self.segments)):
            known = range(max(0, n - 3), n + 1)
            lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", f"#EXT-X-MEDIA-SEQUENCE:{known[0]}"]
            lines += [line for one in known for line in ("#EXTINF:1,", f"{one}.ts")]
            if n == len(self.segments) - 1:
                lines.append("#EXT-X-ENDLIST")
            self._server.serve("/camera.m3u8", Served("\n".join(lines).encode()))
            if self._off.wait(1.0):
                return

    def __enter__(self) -> Camera:
        self._filming.start()
        while "/camera.m3u8" not in self._server.files:
            self._filming.join(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._off.set()
        self._filming.join()


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


def fetching(folder: Path) -> Iterator[Program]:
    """A program of two API processes and two workers that fetches streams from this machine."""
    program = Program(
        folder,
        size=Size(2, 2),
        VIDTR_SOURCE_HOSTS="127.0.0.1",
        VIDTR_SOURCE_PRIVATE_TARGETS="true",
        VIDTR_STREAM_LEASE_S="2",
        VIDTR_WEBHOOK_SECRET=WEBHOOK_SECRET,
        VIDTR_WEBHOOK_PRIVATE_TARGETS="true",
    )
    try:
        program.start()
        yield program
    finally:
        program.stop()


@pytest.fixture(scope="module")
def two_apis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    yield from fetching(tmp_path_factory.mktemp("two-apis"))


@pytest.fixture
def mortal_apis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """One whose processes may be killed."""
    yield from fetching(tmp_path_factory.mktemp("mortal-apis"))


@pytest.mark.slow
def test_another_process_goes_on_with_a_source_and_with_a_sender_when_one_is_killed(
    two_apis: Program, tmp_path: Path, recording: bytes, receiver: tuple[str, queue.Queue[Received]]
) -> None:
    url, pid = two_apis.other_api
    webhook, received_events = receiver
    with (
        RangeServer() as server,
        Camera(server, tmp_path, 14) as camera,
        httpx.Client(base_url=url, timeout=60) as lost,
        httpx.Client(base_url=two_apis.first_url, timeout=60) as left,
    ):
        pulled = begin(lost, source={"url": camera.url}, webhook=webhook)
        pushed = begin(lost, webhook=webhook)
        cut = len(recording) // 2
        lost.post(pushed["media_url"], params={"offset": 0}, content=recording[:cut])
        while left.get(f"/v1/streams/{pulled['id']}").json()["windows"] < 3:
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        # The sender asks how far it is, and goes on there at once.
        received = left.get(f"/v1/streams/{pushed['id']}").json()["received"]
        assert received <= cut
        again = {"offset": received, "last": "true"}
        assert left.post(pushed["media_url"], params=again, content=recording[received:]).status_code == 200
        delivered = told_by_webhook(received_events, 2)
        for stream, states in ((pulled, ["started", "resumed", "ended"]), (pushed, ["started", "resumed", "ended"])):
            told = events(left, stream)
            check_delivered(delivered[stream["id"]], told)
            assert [event["state"] for event in told if event.get("state") != "skipped" and "state" in event] == states
            assert told[-1]["reason"] == "end"
            check_without_gaps(told)
            assert any(event.get("why") == "interrupted" for event in told)
            resumed = next(n for n, event in enumerate(told) if event.get("state") == "resumed")
            assert any(event["kind"] == "window" for event in told[resumed:])


@pytest.mark.slow
def test_a_camera_over_rtsp_has_the_answers_of_its_recording(two_apis: Program, tmp_path: Path) -> None:
    film = write_video(tmp_path / "camera.mp4", 200, fps=25, size=(96, 64), gop=25)
    with (
        rtsp_server({"/front": (film, "h264")}) as address,
        httpx.Client(base_url=two_apis.first_url, timeout=60) as client,
    ):
        told = events(client, begin(client, source={"url": f"rtsp://{address}/front"}))
        expected = recorded(client, film.read_bytes())
    assert [event["state"] for event in told if event["kind"] == "state"] == ["started", "ended"]
    assert told[-1]["reason"] == "end"
    windows = [event for event in told if event["kind"] == "window"]
    dropped = sum(event["windows"] for event in told if event["kind"] == "dropped")
    assert len(windows) + dropped >= len(expected) - 2
    assert windows
    check_same(windows, expected)


@pytest.mark.slow
@needs_tool
def test_an_encoder_over_srt_has_windows_until_its_session_is_ended(two_apis: Program, recording: bytes) -> None:
    with listener(recording) as url, httpx.Client(base_url=two_apis.first_url, timeout=60) as client:
        stream = begin(client, source={"url": f"{url}?latency=200"})
        while client.get(f"/v1/streams/{stream['id']}").json()["windows"] < 3:
            time.sleep(0.1)
        assert client.delete(f"/v1/streams/{stream['id']}").status_code == 204
        told = events(client, stream)
    assert [told[0]["state"], told[-1]["reason"]] == ["started", "deleted"]
    check_without_gaps(told)


@pytest.mark.slow
def test_another_process_goes_on_with_a_camera_over_rtsp_when_one_is_killed(
    mortal_apis: Program, tmp_path: Path
) -> None:
    film = write_video(tmp_path / "camera.mp4", 300, fps=25, size=(96, 64), gop=25)
    url, pid = mortal_apis.other_api
    with (
        rtsp_server({"/front": (film, "h264")}) as address,
        httpx.Client(base_url=url, timeout=60) as lost,
        httpx.Client(base_url=mortal_apis.first_url, timeout=60) as left,
    ):
        stream = begin(lost, source={"url": f"rtsp://{address}/front"})
        while left.get(f"/v1/streams/{stream['id']}").json()["windows"] < 3:
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        told = events(left, stream)
    assert [event["state"] for event in told if "state" in event] == ["started", "resumed", "ended"]
    assert told[-1]["reason"] == "end"
    check_without_gaps(told)
    resumed = next(n for n, event in enumerate(told) if event.get("state") == "resumed")
    assert any(event["kind"] == "window" for event in told[resumed:])


@pytest.mark.slow
def test_a_session_goes_on_when_a_worker_is_killed_that_has_its_windows(two_apis: Program, tmp_path: Path) -> None:
    staying, [lost] = two_apis.process("worker"), two_apis.others("worker")
    with (
        RangeServer() as server,
        Camera(server, tmp_path, 20) as camera,
        httpx.Client(base_url=two_apis.first_url, timeout=60) as client,
    ):
        stream = begin(client, source={"url": camera.url})

        def status() -> dict[str, Any]:
            found: dict[str, Any] = client.get(f"/v1/streams/{stream['id']}").json()
            return found

        # All windows go to the one that will be lost, which then stands still with some in its hands.
        staying.suspend()
        try:
            while status()["windows"] < 3:
                time.sleep(0.1)
            lost.suspend()
            answered, reached_s = status()["windows"], status()["position_s"]
            while status()["position_s"] < reached_s + 2 * STEP:
                time.sleep(0.1)
            assert status()["windows"] <= answered + 1
            two_apis.kill_other("worker")
        finally:
            staying.resume()
        told, stands = events(client, stream), status()
    states = [event["state"] for event in told if event["kind"] == "state" and event["state"] != "skipped"]
    assert states == ["started", "ended"]
    assert told[-1]["reason"] == "end"
    check_without_gaps(told)
    windows = [event for event in told if event["kind"] == "window"]
    assert windows[-1]["start_s"] > reached_s
    assert len(windows) > answered + 1
    dropped = sum(event["windows"] for event in told if event["kind"] == "dropped")
    assert (stands["windows"], stands["dropped"]) == (len(windows), dropped)
