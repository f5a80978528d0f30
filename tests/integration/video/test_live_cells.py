"""A stream in a sandbox worker that was taken over, hangs or dies costs that stream and nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from service.contracts import JobRequest
from service.errors import DecoderCrash, DecodeTimeout
from service.video.live_cell import LiveCell
from service.video.live_report import LiveAsked, LiveEnd, LiveWindow
from service.video.pool import DecodePool
from testing.videos import write_video
from tests.fixtures.evil_worker import STREAMED_BYTES, take_over
from tests.unit.video.common import SPEC, config

ASKED = LiveAsked(spec=SPEC, request=JobRequest(windows="all", stride=0.5), places=5, most_frames=10_000, most_s=100.0)
WINDOW = "{'number': 0, 'start_s': 0.0, 'end_s': 32 / 30, 'times_s': [0.0] * 8, 'frames_decoded': 1, 'errors': 0}"
START = "{'container': 'mpegts', 'codec': 'h264', 'stream': 0}"

Run = Callable[[bytes], Awaitable[tuple[LiveEnd, list[LiveWindow]]]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    take_over(monkeypatch)

    async def run(data: bytes) -> tuple[LiveEnd, list[LiveWindow]]:
        pool, taken, at = DecodePool(config(decode_timeout_s=10.0)), list[LiveWindow](), 0

        async def feed(most: int) -> tuple[bytes, bool]:
            nonlocal at
            at += most
            return data[at - most : at], False

        async def take(window: LiveWindow, clips: bytes) -> None:
            assert len(clips) == ASKED.window_bytes
            taken.append(window)

        await pool.start()
        try:
            return await LiveCell(pool, "me", ASKED, tmp_path).run(feed, take, lambda start: None), taken
        finally:
            await pool.close()

    return run


def program(text: str) -> bytes:
    return f"#evil\n{text}".encode().ljust(STREAMED_BYTES)


async def test_a_stream_is_decoded_in_its_process_window_by_window(run: Run, tmp_path: Path) -> None:
    end, taken = await run(write_video(tmp_path / "a.ts", 90).read_bytes())
    assert [window.number for window in taken] == list(range(end.windows))
    assert end.windows >= 4


@pytest.mark.parametrize(
    "text",
    [
        "report = {'end': {'windows': 1, 'frames_decoded': 0, 'errors': 0, 'jumps': 0}}",
        "report = {'next': 1 << 40}",
        f"tell({{'start': {START}}}); report = {{'window': {WINDOW}, 'start': {START}}}",
        # Its clips were never written.
        f"tell({{'window': {WINDOW}}}); report = {{}}",
        f"tell({{'window': {{**{WINDOW}, 'number': 7}}}}); report = {{}}",
        f"tell({{'window': {{**{WINDOW}, 'times_s': [1e300] * 8}}}}); report = {{}}",
        "tell({'start': 'x' * (1 << 20)}); report = {}",
        "import os; os._exit(3)",
        "raise SystemExit",
    ],
)
async def test_what_a_process_that_was_taken_over_says_ends_its_stream_as_a_crash(run: Run, text: str) -> None:
    with pytest.raises(DecoderCrash):
        await run(program(text))


async def test_a_process_that_hangs_is_ended(run: Run) -> None:
    with pytest.raises(DecodeTimeout):
        await run(program("while True: pass"))
