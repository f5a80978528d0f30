"""Both Python clients against the running program: what they make of refusals, of a bad network and of impatience."""

import asyncio
import contextlib
import io
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import psutil
import pytest

from service.client import (
    AsyncClient,
    Client,
    ExportFormat,
    JobState,
    Progress,
    RequestError,
    Retry,
    TemporaryError,
    VideoError,
)
from service.errors import JobDeleted, UnknownJob
from testing.program import Program
from testing.videos import write_video
from tests.e2e.test_admission import request_head
from tests.fixtures.cutting_proxy import CuttingProxy


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A program that takes one upload at a time, and turns a request into a job after a moment."""
    program = Program(
        tmp_path_factory.mktemp("one-at-a-time"),
        VIDTR_MAX_CONCURRENT_UPLOADS="1",
        VIDTR_SYNC_WAIT_S="0.3",
        VIDTR_TORCH_THREADS="1",
    )
    with program:
        yield program


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise, so that it is large enough to be cut in the middle."""
    path = tmp_path_factory.mktemp("video") / "video.mp4"
    return write_video(path, 60, size=(320, 240), codec_options={"qp": "0"})


class Recorder:
    """Statuses of the answers that a client got."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        recorder = self

        class Plain(httpx.HTTPTransport):
            def handle_request(self, request: httpx.Request) -> httpx.Response:
                response = super().handle_request(request)
                recorder.statuses.append(response.status_code)
                return response

        class Awaitable(httpx.AsyncHTTPTransport):
            async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
                response = await super().handle_async_request(request)
                recorder.statuses.append(response.status_code)
                return response

        self.transport, self.async_transport = Plain(), Awaitable()


class Blocking:
    """The asynchronous client behind the methods of the other one, so that one test serves both."""

    def __init__(self, url: str, **arguments: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncClient(url, **arguments)

    def __enter__(self) -> "Blocking":
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._client.close())
        self._runner.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        async def call(*arguments: Any, **named: Any) -> Any:
            result = method(*arguments, **named)
            return [item async for item in result] if hasattr(result, "__aiter__") else await result

        return lambda *arguments, **named: self._runner.run(call(*arguments, **named))


Connect = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """Makes a client of a URL; `recorder` sees its answers."""

    def make(url: str, recorder: Recorder | None = None, **arguments: Any) -> Any:
        if request.param == "sync":
            return Client(url, transport=recorder.transport if recorder else None, **arguments)
        return Blocking(url, transport=recorder.async_transport if recorder else None, **arguments)

    return make


@contextlib.contextmanager
def stopped_worker(program: Program) -> Iterator[None]:
    """Nothing is scored meanwhile."""
    worker = program.process("worker")
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            os.kill(worker.pid, signal.SIGCONT)


def occupied(program: Program) -> socket.socket:
    """An upload that was let in and does not go on; closing it makes room."""
    connection = socket.create_connection(("127.0.0.1", program.port), timeout=10)
    connection.sendall(request_head(program, "", "Expect: 100-continue"))
    assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue")
    return connection


def job_ids(program: Program) -> set[str]:
    with Client(program.url) as client:
        return {job.id for job in client.jobs(page_size=3)}


def state(program: Program, job_id: str) -> JobState:
    with Client(program.url) as client:
        return client.job(job_id).status


def test_an_upload_that_is_refused_for_now_is_sent_again_until_it_is_answered(
    narrow: Program, video: Path, connect: Connect
) -> None:
    recorder = Recorder()
    with occupied(narrow) as other:

        def make_room() -> None:
            while not recorder.statuses:
                time.sleep(0.01)
            other.close()

        threading.Thread(target=make_room).start()
        with connect(narrow.url, recorder) as client:
            result = client.classify(video)
    assert result.predictions
    assert recorder.statuses[0] == 503


def test_a_client_that_must_not_try_again_raises_the_refusal(narrow: Program, video: Path, connect: Connect) -> None:
    with (
        occupied(narrow),
        connect(narrow.url, retry=Retry(for_s=0)) as client,
        pytest.raises(TemporaryError) as raised,
    ):
        client.classify(video)
    refusal = raised.value
    assert (refusal.code, refusal.limit, refusal.actual) == ("queue_full", 1, 1)
    assert refusal.retry_after_s is not None
    assert refusal.request_id


def test_an_upload_that_broke_off_is_sent_again_and_makes_one_job(
    narrow: Program, video: Path, connect: Connect
) -> None:
    before = job_ids(narrow)
    with (
        CuttingProxy(narrow.port, after_bytes=video.stat().st_size // 2) as proxy,
        connect(proxy.url) as client,
    ):
        result = client.classify(video)
    assert proxy.connections >= 2
    assert job_ids(narrow) - before == {result.id}


def test_an_answer_that_was_lost_is_asked_for_again_and_makes_no_second_job(
    narrow: Program, video: Path, connect: Connect
) -> None:
    before = job_ids(narrow)
    with CuttingProxy(narrow.port, at_the_answer=True) as proxy, connect(proxy.url) as client:
        result = client.classify(video)
    assert proxy.connections >= 2
    assert job_ids(narrow) - before == {result.id}


def test_progress_counts_the_bytes_and_then_the_clips(narrow: Program, video: Path, connect: Connect) -> None:
    seen: list[Progress] = []
    with stopped_worker(narrow), connect(narrow.url) as client:
        job = client.submit(video, progress=seen.append)
    with connect(narrow.url) as client:
        client.wait(job.id, progress=seen.append)
    size = video.stat().st_size
    sent = [p.done for p in seen if p.stage == "upload"]
    scored = [p.done for p in seen if p.stage == "clips"]
    assert sent == sorted(sent)
    assert sent[-1] == size
    assert {p.total for p in seen if p.stage == "upload"} == {size}
    assert scored[-1] == job.clips_total


def test_a_request_that_became_a_job_is_waited_for(narrow: Program, video: Path, connect: Connect) -> None:
    recorder, seen = Recorder(), []

    def go_on(progress: Progress) -> None:
        seen.append(progress.stage)
        if progress.stage == "clips":
            stopped.close()

    with contextlib.ExitStack() as stopped, connect(narrow.url, recorder) as client:
        stopped.enter_context(stopped_worker(narrow))
        result = client.classify(video, progress=go_on)
    assert recorder.statuses[0] == 202
    assert result.predictions
    assert "clips" in seen


def test_an_answer_is_exported_as_the_api_gives_it(narrow: Program, video: Path, connect: Connect) -> None:
    with connect(narrow.url) as client:
        job = client.submit(video, windows="all")
        client.wait(job.id)
        for form in get_args(ExportFormat):
            exported = client.export(job.id, form, of="shots", name="film.mp4")
            params = {"format": form, "of": "shots", "name": "film.mp4"}
            plain = httpx.get(f"{narrow.url}/v1/jobs/{job.id}/result", params=params).raise_for_status()
            assert exported == plain.content.decode()


def test_a_job_can_be_cancelled(narrow: Program, video: Path, connect: Connect) -> None:
    with stopped_worker(narrow), connect(narrow.url) as client:
        job = client.submit(video)
        client.cancel(job.id)
        client.cancel(job.id)
        with pytest.raises(JobDeleted):
            client.wait(job.id)


def test_who_stops_waiting_for_a_classification_deletes_its_job(narrow: Program, video: Path, connect: Connect) -> None:
    before = job_ids(narrow)
    with stopped_worker(narrow), connect(narrow.url) as client, pytest.raises(TimeoutError):
        client.classify(video, wait_s=0.2)
    assert job_ids(narrow) == before


async def test_a_cancelled_task_deletes_its_job(narrow: Program, video: Path) -> None:
    before = job_ids(narrow)
    accepted = asyncio.Event()

    def heard(progress: Progress) -> None:
        if progress.stage == "clips":
            accepted.set()

    with stopped_worker(narrow):
        async with AsyncClient(narrow.url) as client:
            task = asyncio.create_task(client.classify(video, progress=heard))
            await accepted.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    assert job_ids(narrow) == before


def test_who_stops_waiting_for_a_submitted_job_leaves_it_alone(narrow: Program, video: Path, connect: Connect) -> None:
    with stopped_worker(narrow), connect(narrow.url) as client:
        job = client.submit(video)
        with pytest.raises(TimeoutError):
            client.wait(job.id, timeout_s=0.2)
    with connect(narrow.url) as client:
        assert client.wait(job.id).id == job.id


def test_events_lead_from_the_queue_to_the_end_over_a_broken_connection(
    narrow: Program, video: Path, connect: Connect
) -> None:
    with connect(narrow.url) as client:
        job = client.submit(video)
    with CuttingProxy(narrow.port, at_the_answer=True) as proxy, connect(proxy.url) as client:
        events = list(client.events(job.id))
        later = list(client.events(job.id, last_event_id=events[0].event_id))
        nothing = list(client.events(job.id, last_event_id=events[-1].event_id))
    assert events[0].status is JobState.QUEUED
    assert events[-1].status is JobState.SUCCEEDED
    assert later == events[1:]
    assert nothing == []


@pytest.mark.parametrize("source", ["path", "text", "bytes", "file", "stream"])
def test_a_video_may_come_from_anywhere(narrow: Program, video: Path, connect: Connect, source: str) -> None:
    class Stream(io.RawIOBase):
        """What a pipe is: it can only be read on."""

        def __init__(self) -> None:
            self._file = io.BytesIO(video.read_bytes())

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            return self._file.readinto(buffer)

    with video.open("rb") as file, connect(narrow.url) as client:
        given = {"path": video, "text": str(video), "bytes": video.read_bytes(), "file": file, "stream": Stream()}
        result = client.classify(given[source], top_k=1)
    assert len(result.predictions) == 1
    assert result.video.width == 320


def test_errors_are_raised_by_family_and_by_code(narrow: Program, tmp_path: Path, connect: Connect) -> None:
    with connect(narrow.url) as client:
        with pytest.raises(VideoError) as bad_video:
            client.classify(b"no video")
        with pytest.raises(RequestError, match="crops"):
            client.classify(b"no video", crops=2)
        with pytest.raises(UnknownJob):
            client.job("0" * 32)
        with pytest.raises(OSError, match="missing"):
            client.classify(tmp_path / "missing.mp4")
    assert bad_video.value.code == "container_not_allowed"
    assert bad_video.value.request_id


def test_the_served_models_are_listed(narrow: Program, connect: Connect) -> None:
    with connect(narrow.url) as client:
        assert [model.name for model in client.models() if model.default] == ["camera_motion"]


def test_a_large_upload_is_never_held_in_memory(narrow: Program, tmp_path: Path, connect: Connect) -> None:
    large = tmp_path / "large.mp4"
    with large.open("wb") as file:
        file.truncate(200_000_000)
    before = psutil.Process().memory_info().rss
    most = 0

    def measure(progress: Progress) -> None:
        nonlocal most
        most = max(most, psutil.Process().memory_info().rss)

    with connect(narrow.url) as client, pytest.raises(VideoError):
        client.classify(large, progress=measure)
    assert most - before < 50_000_000
