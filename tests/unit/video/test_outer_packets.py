"""Large sources of Matroska and MPEG-TS: a few of their bytes give the clips of the whole file."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.contracts import DecodedVideo, JobRequest
from service.video.clips import decode_file
from service.video.supply import BLOCK_BYTES, SuppliedFile
from testing.videos import remux, repeated, write_video
from tests.unit.video.common import LIMITS, SPEC

OPEN_GROUPS = {"crf": "33", "preset": "veryfast", "x264-params": "open-gop=1:bframes=3:scenecut=0"}
PICTURES = np.random.default_rng(0).integers(0, 255, (12, 180, 320, 3), np.uint8)
REQUESTS = [JobRequest(windows=1), JobRequest(windows=4), JobRequest(windows=2, start=60.5)]


def draw(number: int, width: int, height: int) -> Any:
    picture = PICTURES[number % 12].copy()
    picture[:, number * 3 % width :][:, :30] = 255
    return picture


class Source:
    """A file that comes piece by piece, and which pieces came."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        self.blocks: set[int] = set()
        self.size = path.stat().st_size
        self.file = SuppliedFile(self._descriptor, self.size, self._ask)

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def _ask(self, request: dict[str, list[int]]) -> None:
        offset, length = request["want"]
        self.blocks.update(range(offset // BLOCK_BYTES, (offset + length - 1) // BLOCK_BYTES + 1))

    @property
    def share(self) -> float:
        """Of its bytes, those that came."""
        return len(self.blocks) * BLOCK_BYTES / self.size


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    size, gop = (320, 180), 60
    piece = write_video(folder / "piece.mp4", 300, size=size, draw=draw, gop=gop, codec_options=OPEN_GROUPS, b_frames=3)
    for suffix in ("mkv", "ts"):
        repeated(piece, folder / f"film.{suffix}", 12)
    webm = write_video(
        folder / "piece.webm", 60, size=size, draw=draw, gop=gop, codec="libvpx", codec_options={"crf": "20"}
    )
    repeated(webm, folder / "film.webm", 300)
    return folder


def both(source: Source, path: Path, request: JobRequest) -> tuple[DecodedVideo, DecodedVideo]:
    """What the source gives and what the file does, which have equal clips."""
    clips = path.with_name("source.clips"), path.with_name("file.clips")
    read = decode_file(source.file, clips[0], SPEC, request, LIMITS)
    whole = decode_file(path, clips[1], SPEC, request, LIMITS)
    assert clips[0].read_bytes() == clips[1].read_bytes()
    return read.model_copy(update={"decode_ms": 0}), whole.model_copy(update={"decode_ms": 0})


@pytest.mark.parametrize("request_", REQUESTS, ids=["first", "everywhere", "middle"])
@pytest.mark.parametrize("name", ["film.mkv", "film.ts", "film.webm"])
def test_a_few_bytes_give_the_clips_of_the_whole_file(folder: Path, name: str, request_: JobRequest) -> None:
    with Source(folder / name) as source:
        read, whole = both(source, folder / name, request_)
        assert read == whole
        assert source.share < 0.5


def test_a_rate_that_varies_is_not_stated(folder: Path) -> None:
    times = [number * 33 + number % 5 * 3 for number in range(300)]
    piece = write_video(
        folder / "varying.mp4",
        300,
        times=[Fraction(time, 1000) for time in times],
        size=(320, 180),
        draw=draw,
        gop=60,
        codec_options=OPEN_GROUPS,
    )
    path = repeated(piece, folder / "varying.mkv", 12)
    with Source(path) as source:
        read, whole = both(source, path, JobRequest(windows=2))
        assert read.video.fps is None
        assert read.video.duration_s == whole.video.duration_s
        assert source.share < 0.5


@pytest.mark.parametrize("offset_s", [0.0, 1000.0], ids=["back", "ahead"])
def test_a_transport_stream_whose_clock_jumps_is_read_through(folder: Path, offset_s: float) -> None:
    later = remux(folder / "film.ts", folder / "later.ts", offset_s=offset_s)
    joined = folder / "joined.ts"
    joined.write_bytes((folder / "film.ts").read_bytes() + later.read_bytes())
    with Source(joined) as source:
        read, whole = both(source, joined, JobRequest(windows=1))
        assert read == whole
        assert source.share > 0.9


def test_matroska_without_cues_is_read_through(folder: Path) -> None:
    data = (folder / "film.mkv").read_bytes()
    path = folder / "cut.mkv"
    path.write_bytes(data[: len(data) - 300_000])
    with Source(path) as source:
        read, whole = both(source, path, JobRequest(windows=2))
        assert read == whole
        assert source.share > 0.9
