"""Crashes count: against their caller, and against the addresses that all sandbox workers share."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from service.contracts import JobRequest
from service.errors import DecoderCrash, TooManyCrashes, VidtrError
from service.video.crashes import Crashes
from service.video.pool import DecodePool
from testing.videos import write_video
from tests.fixtures.evil_worker import program, take_over
from tests.integration.video.test_pool import SLOW, fork_servers, running, until_decoding
from tests.unit.video.common import SPEC

CRASH = "os._exit(11)"


@pytest.fixture(autouse=True)
def _evil(monkeypatch: pytest.MonkeyPatch) -> None:
    take_over(monkeypatch)


async def crashed(pool: DecodePool, folder: Path, caller: str) -> None:
    with pytest.raises(DecoderCrash):
        await pool.decode(program(folder / "crash", CRASH), folder / "none", SPEC, JobRequest(), caller)


async def test_a_caller_whose_uploads_crash_too_often_is_refused_and_no_other(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4")
    async with running(decode_crashes_per_caller=2) as pool:
        for _ in range(2):
            await crashed(pool, tmp_path, "mallory")
        with pytest.raises(TooManyCrashes) as caught:
            await pool.decode(video, tmp_path / "out", SPEC, JobRequest(), "mallory")
        assert (caught.value.limit, caught.value.actual) == (2, 2)
        assert await pool.decode(video, tmp_path / "out", SPEC, JobRequest(), "ann")


def test_a_crash_is_forgotten_after_its_time() -> None:
    now = 0.0
    crashes = Crashes(2, 10.0, lambda: now)
    crashes.count("mallory")
    now = 5.0
    crashes.count("mallory")
    with pytest.raises(TooManyCrashes) as caught:
        crashes.check("mallory")
    assert caught.value.retry_after_s == 5.0
    now = 11.0
    crashes.check("mallory")
    assert crashes.suspects("mallory")
    now = 16.0
    assert not crashes.suspects("mallory")


def test_callers_without_a_name_are_not_counted() -> None:
    crashes = Crashes(1, 10.0)
    crashes.count("")
    crashes.check("")


async def test_after_some_crashes_the_cells_come_of_another_process(tmp_path: Path) -> None:
    async with running(decode_crashes_per_layout=3) as pool:
        [before] = fork_servers()
        for _ in range(2):
            await crashed(pool, tmp_path, "mallory")
        assert fork_servers() == [before]
        await crashed(pool, tmp_path, "mallory")
        # Its next upload waits for the other one, so that it never learns more of the old addresses.
        await crashed(pool, tmp_path, "mallory")
        while before in fork_servers():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
        assert len(fork_servers()) == 1


async def test_decodes_outlive_the_change_of_the_fork_server(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4")
    async with running(decode_crashes_per_layout=1, decode_workers=2) as pool:
        [before] = fork_servers()
        slow = asyncio.create_task(pool.decode(video, tmp_path / "slow", SLOW, JobRequest(), "ann"))
        await until_decoding(tmp_path / "slow")
        await crashed(pool, tmp_path, "mallory")
        await crashed(pool, tmp_path, "mallory")
        assert await slow
        while before in fork_servers():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)


async def test_a_report_that_is_not_believed_is_a_crash(tmp_path: Path) -> None:
    async with running(decode_crashes_per_caller=1) as pool:
        with pytest.raises(DecoderCrash):
            await pool.decode(
                program(tmp_path / "lie", "report = {}"), tmp_path / "none", SPEC, JobRequest(), "mallory"
            )
        with pytest.raises(TooManyCrashes):
            pool.admit("mallory")


async def test_an_upload_that_cannot_be_decoded_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no video")
    async with running(decode_crashes_per_caller=1) as pool:
        with pytest.raises(VidtrError):
            await pool.decode(tmp_path / "text", tmp_path / "none", SPEC, JobRequest(), "ann")
        pool.admit("ann")
