"""Live streams that are fetched, from cameras and encoders, and what becomes of them when a process is killed."""

from __future__ import annotations

import os
import queue
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from testing.program import Program, Size
from testing.range_server import RangeServer
from testing.videos import write_video
from tests.e2e.conftest import WEBHOOK_SECRET, Received
from tests.e2e.live_streams import (
    STEP,
    begin,
    check_delivered,
    check_same,
    check_without_gaps,
    count_dropped,
    events,
    recorded,
    told_by_webhook,
    windows_of,
)
from tests.fixtures.hls_camera import Camera
from tests.fixtures.rtsp_server import rtsp_server
from tests.fixtures.srt_listener import listener, needs_tool

CameraAt = Callable[[Path, bytes], AbstractContextManager[str]]


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
    with program:
        yield program


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
    windows = windows_of(told)
    dropped = count_dropped(told)
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


@contextmanager
def over_rtsp(tmp_path: Path, recording: bytes) -> Iterator[str]:
    """A camera that ends after twelve seconds."""
    film = write_video(tmp_path / "camera.mp4", 300, fps=25, size=(96, 64), gop=25)
    with rtsp_server({"/front": (film, "h264")}) as address:
        yield f"rtsp://{address}/front"


@contextmanager
def over_srt(tmp_path: Path, recording: bytes) -> Iterator[str]:
    """An encoder that goes on for ever, and takes another call where one is lost."""
    with listener(recording) as url:
        yield f"{url}?latency=200"


@pytest.mark.slow
@pytest.mark.parametrize("camera", [over_rtsp, pytest.param(over_srt, marks=needs_tool)])
def test_another_process_goes_on_with_a_camera_when_one_is_killed(
    mortal_apis: Program, tmp_path: Path, recording: bytes, camera: CameraAt
) -> None:
    url, pid = mortal_apis.other_api
    with (
        camera(tmp_path, recording) as source,
        httpx.Client(base_url=url, timeout=60) as lost,
        httpx.Client(base_url=mortal_apis.first_url, timeout=60) as left,
    ):
        stream = begin(lost, source={"url": source})

        def status() -> dict[str, Any]:
            found: dict[str, Any] = left.get(f"/v1/streams/{stream['id']}").json()
            return found

        while status()["windows"] < 3:
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        before = status()["windows"]
        while status()["windows"] < before + 3 and status()["state"] != "ended":
            time.sleep(0.1)
        left.delete(f"/v1/streams/{stream['id']}")
        told = events(left, stream)
    # An encoder may take the call of the process that goes on only once it has missed the one that was killed.
    states = [event["state"] for event in told if "state" in event]
    assert [state for state in states if state != "reconnecting"] == ["started", "resumed", "ended"]
    check_without_gaps(told)
    resumed = next(n for n, event in enumerate(told) if event.get("state") == "resumed")
    assert windows_of(told[resumed:])


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
    windows = windows_of(told)
    assert windows[-1]["start_s"] > reached_s
    assert len(windows) > answered + 1
    dropped = count_dropped(told)
    assert (stands["windows"], stands["dropped"]) == (len(windows), dropped)
