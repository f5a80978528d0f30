"""The example video is made once, and a failure is not kept."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from service.api.example_endpoint import ExampleVideo
from service.errors import InternalError

COUNTING = "import sys, pathlib; p = pathlib.Path(sys.argv[1]); p.write_text(p.read_text() + 'x'); print('video')"


async def test_callers_at_the_same_time_share_one_video(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    example = ExampleVideo((sys.executable, "-c", COUNTING, str(tmp_path / "runs")))
    assert list(await asyncio.gather(example.get(), example.get(), example.get())) == [b"video\n"] * 3
    assert (tmp_path / "runs").read_text() == "x"


async def test_a_video_that_could_not_be_made_is_tried_again(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("raise SystemExit(3)")
    example = ExampleVideo((sys.executable, str(program)))
    with pytest.raises(InternalError, match="could not be made"):
        await example.get()
    program.write_text("print('video')")
    assert await example.get() == b"video\n"
