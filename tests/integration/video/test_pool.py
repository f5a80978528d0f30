"""The decode processes: real ones, killed for real."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.contracts import JobRequest
from service.errors import (
    DecodeCpuLimit,
    DecodeMemoryLimit,
    DecoderCrash,
    DecodeTimeout,
    Draining,
    VideoTooShort,
    VidtrError,
)
from service.video.pool import DecodePool
from testing.program import runs
from testing.videos import write_video
from tests.unit.video.common import SHARED, SPEC, config, decode


def fork_servers() -> list[psutil.Process]:
    """The fork servers of this test: one for each pool that runs."""
    # Not those of children: another test may keep a whole program with decode processes of its own.
    found = []
    for child in psutil.Process().children():
        # One that has just ended, and is not waited for yet, has no command line any more.
        with suppress(psutil.NoSuchProcess):
            if "service.video.forkserver_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def sandbox_workers() -> list[psutil.Process]:
    """The sandbox workers of this test."""
    return [worker for server in fork_servers() for worker in server.children()]


def cell_with(clips: Path) -> psutil.Process | None:
    """The sandbox worker that holds this file of clips."""
    for worker in sandbox_workers():
        with suppress(psutil.NoSuchProcess):
            if str(clips) in [file.path for file in worker.open_files()]:
                return worker
    return None


async def until_decoding(clips: Path) -> psutil.Process:
    """The sandbox worker that decodes to this file."""
    while (worker := cell_with(clips)) is None:  # noqa: ASYNC110 - it is handed over to another process
        await asyncio.sleep(0.01)
    return worker


@asynccontextmanager
async def running(**changes: Any) -> AsyncIterator[DecodePool]:
    pool = DecodePool(config(**changes))
    try:
        await pool.start()
        yield pool
    finally:
        await pool.close()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "a.mp4")


# Seconds of work on any video: each of its frames is wanted, and blown up before the crop.
SLOW = SPEC.model_copy(
    update={"frames": 60, "frame_step": 1, "resize": "opencv_bilinear", "resize_short_side": 1500},
)


async def test_a_decode_in_a_process_equals_one_in_this_process(video: Path, tmp_path: Path) -> None:
    here, clips = decode(video)
    async with running() as pool:
        there = await pool.decode(video, tmp_path / "out", SPEC, JobRequest())
    assert there.model_copy(update={"decode_ms": here.decode_ms}) == here
    assert (tmp_path / "out").read_bytes() == clips.tobytes()


@pytest.mark.parametrize("isolation", ["caller", "upload"])
async def test_one_upload_after_the_other_is_decoded_alike(video: Path, tmp_path: Path, isolation: str) -> None:
    here, clips = decode(video)
    short = write_video(tmp_path / "short.mp4", frames=2)
    async with running(decode_isolation=isolation) as pool:
        for number in range(3):
            out = tmp_path / f"out{number}"
            there = await pool.decode(video, out, SPEC, JobRequest(), "ann")
            assert there.model_copy(update={"decode_ms": here.decode_ms}) == here
            assert out.read_bytes() == clips.tobytes()
            with pytest.raises(VideoTooShort):
                await pool.decode(short, tmp_path / "none", SPEC, JobRequest(), "ann")


class Elsewhere(JobRequest):
    """As the options of the api: of a module that a decode process does not know."""


async def test_a_request_of_another_room_is_decoded_from_the_first_upload_on(video: Path, tmp_path: Path) -> None:
    async with running() as pool:
        assert await pool.decode(video, tmp_path / "out", SPEC, Elsewhere())


async def test_start_brings_up_a_cell_for_every_upload_that_may_be_decoded_at_once() -> None:
    async with running(decode_workers=2):
        assert len(sandbox_workers()) == 2


async def test_errors_keep_their_type_limit_and_value_across_the_process(tmp_path: Path) -> None:
    short = write_video(tmp_path / "short.mp4", frames=2)
    async with running() as pool:
        with pytest.raises(VideoTooShort) as caught:
            await pool.decode(short, tmp_path / "out", SPEC, JobRequest())
    assert (caught.value.limit, caught.value.actual) == (4, 2)


async def test_a_decode_that_takes_too_long_is_killed_and_the_next_one_works(video: Path, tmp_path: Path) -> None:
    async with running(decode_timeout_s=0.5) as pool:
        with pytest.raises(DecodeTimeout) as caught:
            await pool.decode(video, tmp_path / "slow", SLOW, JobRequest())
        assert caught.value.limit == 0.5
        assert await pool.decode(video, tmp_path / "out", SPEC, JobRequest())


async def test_a_pipe_in_the_place_of_an_upload_holds_nobody_up(video: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    async with running(decode_timeout_s=5.0) as pool:
        with pytest.raises(VidtrError):
            await pool.decode(tmp_path / "pipe", tmp_path / "none", SPEC, JobRequest())
        assert await pool.decode(video, tmp_path / "out", SPEC, JobRequest())


async def test_a_crash_fails_its_own_upload_only(video: Path, tmp_path: Path) -> None:
    async with running() as pool:
        decoding = asyncio.create_task(pool.decode(video, tmp_path / "slow", SLOW, JobRequest()))
        (await until_decoding(tmp_path / "slow")).send_signal(signal.SIGSEGV)
        with pytest.raises(DecoderCrash, match="SIGSEGV"):
            await decoding
        assert await pool.decode(video, tmp_path / "out", SPEC, JobRequest())


async def test_uploads_survive_the_end_of_the_fork_server(video: Path, tmp_path: Path) -> None:
    async with running() as pool:
        decoding = asyncio.create_task(pool.decode(video, tmp_path / "slow", SLOW, JobRequest()))
        await until_decoding(tmp_path / "slow")
        (server,) = fork_servers()
        server.kill()
        assert (await decoding).windows
        assert await pool.decode(video, tmp_path / "out", SPEC, JobRequest())
        assert server not in fork_servers()


async def test_a_fork_server_that_hangs_is_replaced(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as pool:
        (server,) = fork_servers()
        server.suspend()
        monkeypatch.setattr("service.video.forkserver_client._ANSWER_S", 5.0)
        short = write_video(tmp_path / "short.mp4", frames=2)
        for _ in range(2):
            # Its sandbox worker is not used again, so that others are needed.
            with pytest.raises(VideoTooShort):
                await pool.decode(short, tmp_path / "out", SPEC, JobRequest())
        assert server not in fork_servers()


async def test_processes_killed_while_idle_are_replaced(video: Path, tmp_path: Path) -> None:
    async with running(decode_workers=2) as pool:
        await pool.decode(video, tmp_path / "out", SPEC, JobRequest())
        for process in [*sandbox_workers(), *fork_servers()]:
            process.kill()
            while runs(process):  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.01)
            assert await pool.decode(video, tmp_path / "out", SPEC, JobRequest())


async def test_a_report_larger_than_any_can_be_is_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4")
    monkeypatch.setattr("service.video.decode_report._REPORT_BYTES", 100)
    monkeypatch.setattr("service.video.decode_report._FRAME_BYTES", 0)
    async with running() as pool:
        with pytest.raises(DecoderCrash):
            await pool.decode(video, tmp_path / "out", SPEC, JobRequest(windows=1))


async def test_cpu_seconds_are_limited(video: Path, tmp_path: Path) -> None:
    async with running(decode_cpu_s=1) as pool:
        with pytest.raises(DecodeCpuLimit, match="CPU seconds") as caught:
            await pool.decode(video, tmp_path / "out", SLOW, JobRequest())
    assert caught.value.limit == 1
    assert isinstance(caught.value.actual, float) == (sys.platform == "linux")


async def test_cpu_seconds_are_granted_anew_to_each_upload(video: Path, tmp_path: Path) -> None:
    async with running(decode_cpu_s=1, decode_recycle_after=1_000_000) as pool:
        await pool.decode(video, tmp_path / "first", SPEC, JobRequest())
        before = {worker.pid for worker in sandbox_workers()}
        used_s = 0.0
        while used_s < 3.0:
            used_s += (await pool.decode(video, tmp_path / "out", SPEC, JobRequest(windows="all"))).decode_ms / 1000
        assert before <= {worker.pid for worker in sandbox_workers()}


@pytest.mark.skipif(sys.platform != "linux", reason="the address space is limited on Linux only")
async def test_memory_is_limited(video: Path, tmp_path: Path) -> None:
    # Pictures of 48 megabytes do not fit beside the code of the decoders.
    large = write_video(tmp_path / "large.mp4", 8, fps=4, codec="mjpeg", size=(8000, 4000))
    async with running(decode_memory_bytes=320 * 1024**2, max_pixels=8000 * 4000) as pool:
        with pytest.raises(DecodeMemoryLimit, match="memory") as caught:
            await pool.decode(large, tmp_path / "out", SPEC, JobRequest())
        assert caught.value.limit == 320 * 1024**2
        assert await pool.decode(video, tmp_path / "out", SPEC, JobRequest())


async def test_cancelling_kills_the_decode(video: Path, tmp_path: Path) -> None:
    async with running() as pool:
        decoding = asyncio.create_task(pool.decode(video, tmp_path / "slow", SLOW, JobRequest()))
        worker = await until_decoding(tmp_path / "slow")
        decoding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await decoding
        assert not worker.is_running()
        assert await pool.decode(video, tmp_path / "out", SPEC, JobRequest())


async def test_cancelling_while_waiting_for_a_process_leaves_the_running_decode_alone(
    video: Path, tmp_path: Path
) -> None:
    async with running() as pool:
        decoding = asyncio.create_task(pool.decode(video, tmp_path / "slow", SLOW, JobRequest()))
        waiting = asyncio.create_task(pool.decode(video, tmp_path / "out", SPEC, JobRequest()))
        await until_decoding(tmp_path / "slow")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await decoding
    assert not (tmp_path / "out").exists()


async def test_closing_leaves_no_process_behind(video: Path) -> None:
    async with running(decode_workers=2):
        processes = [*fork_servers(), *sandbox_workers()]
        assert len(processes) == 3
    assert not psutil.wait_procs(processes, timeout=10)[1]


async def test_closing_ends_running_decodes_with_draining(video: Path, tmp_path: Path) -> None:
    async with running() as pool:
        decoding = asyncio.create_task(pool.decode(video, tmp_path / "slow", SLOW, JobRequest()))
        await until_decoding(tmp_path / "slow")
        await pool.close()
        with pytest.raises(Draining):
            await decoding


async def test_a_closed_pool_takes_no_upload(video: Path, tmp_path: Path) -> None:
    async with running() as pool:
        pass
    with pytest.raises(Draining):
        await pool.decode(video, tmp_path / "out", SPEC, JobRequest())


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
async def test_a_process_ignores_interrupts_and_can_gain_no_privileges() -> None:
    async with running():
        child = sandbox_workers()[0]
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{child.pid}/status").read_text().splitlines())
    assert status["NoNewPrivs"].strip() == "1"
    assert int(status["SigIgn"], 16) >> (signal.SIGINT - 1) & 1


@pytest.mark.skipif(not (SHARED / "clips").is_dir(), reason="the folder of real clips is not here")
async def test_no_real_clip_needs_what_a_locked_process_cannot_load(tmp_path: Path) -> None:
    # Among them are sound, subtitles and data, for which PyAV has modules that it loads late.
    failed = []
    async with running() as pool:
        for path in sorted((SHARED / "clips").iterdir()):
            try:
                await pool.decode(path, tmp_path / "out", SPEC, JobRequest())
            except VidtrError as error:
                if "unforeseen" in error.detail:
                    failed.append((path.name, error.detail))
    assert not failed
