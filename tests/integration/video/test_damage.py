"""Files damaged at random: whatever happens, it has a name."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import pytest

from service.contracts import JobRequest
from service.errors import VidtrError
from testing.videos import write_video
from tests.unit.video.common import decode

KINDS: dict[str, dict[str, Any]] = {
    "a.mp4": {},
    "a.mkv": {},
    "a.ts": {"audio": True},
    "a.flv": {},
    "a.avi": {"codec": "mpeg4"},
    "a.mpg": {"codec": "mpeg2video", "fps": 25},
    "a.gif": {"codec": "gif", "fps": 25},
    "a.webm": {"codec": "libvpx-vp9"},
}


def damage(data: bytes, dice: random.Random) -> bytes:
    """Flip, blank, remove or cut off some of the bytes."""
    changed = bytearray(data)
    place, length = dice.randrange(len(data)), dice.randrange(1, len(data) // 3)
    match dice.randrange(4):
        case 0:
            for _ in range(dice.choice((1, 5, 40, 300))):
                changed[dice.randrange(len(data))] = dice.randrange(256)
        case 1:
            changed[place : place + length] = bytes(min(length, len(data) - place))
        case 2:
            del changed[place : place + length]
        case _:
            del changed[place + 1 :]
    return bytes(changed)


@pytest.mark.parametrize("name", KINDS)
def test_every_damaged_file_is_answered_or_refused_by_name(tmp_path: Path, name: str) -> None:
    whole = write_video(tmp_path / name, frames=40, **KINDS[name]).read_bytes()
    upload = tmp_path / "upload"
    for seed in range(60):
        upload.write_bytes(damage(whole, random.Random(seed)))
        with contextlib.suppress(VidtrError):
            answer, clips = decode(upload, JobRequest(windows=2))
            assert len(clips) == len(answer.windows), seed
