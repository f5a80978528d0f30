"""Sampled frames per second of the video package against decoding everything, torchcodec and decord2.

Every tool delivers the same frames as RGB pictures of 256 pixels on the short side, on one thread. Rounds of all tools
alternate; each tool's best round counts, in CPU seconds: on one thread they are those of an idle machine. `decoder` is
what FFmpeg's decoder alone takes of our own seconds, for the packets that the wanted frames refer to: the best rival
over it is the ratio that no demuxing, planning or resizing however fast could exceed.
The rivals live in an environment of their own:

    python -m venv /tmp/rivals
    /tmp/rivals/bin/pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
    /tmp/rivals/bin/pip install torchcodec==0.13.0 decord2==3.4.0      # torchcodec needs FFmpeg's shared libraries
    python -m benchmarks.decode --rivals /tmp/rivals/bin/python [--clips FOLDER] [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import bisect
import json
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from benchmarks.decode_videos import KINDS, video
from service.settings import Settings
from service.video.config import DecodeConfig
from service.video.decode import pick_frames
from service.video.decoder import Decoder
from service.video.probe import open_video

SHORT_SIDE = 256
SLOTS, STEP_S = 8, 8 / 30
RIVALS = ("torchcodec_exact", "torchcodec_approximate", "decord2")
LIMITS = Settings(_env_file=None).subset(DecodeConfig)
# swscale and torchcodec's filter round differently; a wrong frame of these videos differs by far more.
MOST_DIFFERENCE = 8.0


@dataclass(frozen=True)
class Cell:
    """One video and the moments to sample."""

    name: str
    path: Path
    b_frames: bool | None
    moments: tuple[float, ...]
    indices: tuple[int, ...]
    origin: float
    width: int
    height: int


def scale(reformatter: VideoReformatter, frame: VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
    picture = reformatter.reformat(frame, width, height, format="rgb24", interpolation="BILINEAR", threads=1)
    return np.asarray(picture.to_ndarray(), dtype=np.uint8)


def ours(cell: Cell) -> tuple[NDArray[np.uint8], list[float]]:
    pictures = np.empty((len(cell.moments), cell.height, cell.width, 3), np.uint8)
    reformatter = VideoReformatter()

    def take(number: int, frame: VideoFrame) -> None:
        pictures[number] = scale(reformatter, frame, cell.width, cell.height)

    with open_video(cell.path, LIMITS) as found:
        picked = pick_frames(found, cell.moments, take, LIMITS)
    return pictures, [moment + cell.origin for moment in picked.times_s]


class DecoderTime:
    """CPU seconds that FFmpeg's decoder takes of this process, while this is entered.

    Attributes:
        seconds: so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._decode = Decoder.decode

    def __enter__(self) -> DecoderTime:
        decode = self._decode

        def timed(decoder: Decoder, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
            began = time.process_time()
            try:
                return decode(decoder, packet)
            finally:
                self.seconds += time.process_time() - began

        Decoder.decode = timed  # type: ignore[assignment,method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        Decoder.decode = self._decode  # type: ignore[method-assign]


def everything(cell: Cell) -> tuple[NDArray[np.uint8], list[float]]:
    """Decode up to the last wanted frame, one thread, and convert the wanted frames only."""
    pictures = np.empty((len(cell.moments), cell.height, cell.width, 3), np.uint8)
    times: list[float] = []
    reformatter = VideoReformatter()
    wanted = set(cell.indices)
    with av.open(str(cell.path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for index, frame in enumerate(container.decode(stream)):
            if index in wanted:
                pictures[len(times)] = scale(reformatter, frame, cell.width, cell.height)
                times.append(float(frame.time or 0))
            if index >= cell.indices[-1]:
                break
    return pictures, times


class Rivals:
    """The other interpreter."""

    def __init__(self, python: str, scratch: Path) -> None:
        script = Path(__file__).with_name("decode_vs_libs.py")
        self._process = subprocess.Popen(
            [python, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._pictures = scratch / "pictures"

    def run(self, tool: str, cell: Cell, save: bool) -> dict[str, Any]:
        moments = [moment + cell.origin for moment in cell.moments]
        task: dict[str, Any] = {"tool": tool, "path": str(cell.path), "moments": moments, "indices": cell.indices}
        task |= {"width": cell.width, "height": cell.height, "save": str(self._pictures) if save else None}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        if save and "error" not in answer:
            answer["pictures"] = np.fromfile(self._pictures, np.uint8)
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def cell_of(name: str, path: Path, b_frames: bool | None, windows: int) -> Cell:
    with open_video(path, LIMITS, every_frame=True) as found:
        timeline = found.probe.timeline
        times, duration = timeline.frame_times_s, timeline.duration_s
        origin = float(timeline.origin * timeline.time_base)
        context = found.stream.codec_context
        width, height = context.width, context.height
    slack = max(0.0, duration - SLOTS * STEP_S)
    starts = [slack / 2] if windows == 1 else [slack * number / (windows - 1) for number in range(windows)]
    indices = {bisect.bisect_right(times, start + slot * STEP_S) - 1 for start in starts for slot in range(SLOTS)}
    # A moment inside the frame's time, so that no rounding decides between two frames.
    ends = [*times[1:], duration]
    moments = tuple(times[index] + (ends[index] - times[index]) / 3 for index in sorted(indices))
    ratio = SHORT_SIDE / min(width, height)
    return Cell(
        f"{name}, {windows} window{'s' if windows > 1 else ''}",
        path,
        b_frames,
        moments,
        tuple(sorted(indices)),
        origin,
        round(width * ratio),
        round(height * ratio),
    )


def measure(cell: Cell, rivals: Rivals | None, rounds: int, longest_s: float) -> dict[str, Any]:
    """Best seconds of each tool; frames are compared in the first round."""
    best: dict[str, float] = {}
    notes: dict[str, str] = {}
    reference: NDArray[np.uint8] | None = None
    reference_times: list[float] = []
    for number in range(rounds):
        for tool, decode in (("ours", ours), ("everything", everything)):
            if tool == "everything" and (cell.moments[-1] > longest_s or (number and best[tool] > 5)):
                continue
            began = time.process_time()
            pictures, times = decode(cell)
            best[tool] = min(best.get(tool, math.inf), time.process_time() - began)
            if tool == "ours":
                reference, reference_times = pictures, times
                # In a run of its own, for it asks for the time at every packet.
                with DecoderTime() as decoder:
                    ours(cell)
                best["decoder"] = min(best.get("decoder", math.inf), decoder.seconds)
            elif number == 0:
                assert reference is not None
                assert np.array_equal(pictures, reference), f"{cell.name}: not the frames of a full decode"
        for tool in RIVALS if rivals else ():
            if tool in notes or (number and best[tool] > 5):
                continue
            assert rivals is not None
            assert reference is not None
            answer = rivals.run(tool, cell, save=number == 0)
            if "error" in answer:
                notes[tool] = answer["error"]
                continue
            best[tool] = min(best.get(tool, math.inf), answer["seconds"])
            if number == 0:
                difference = np.abs(answer["pictures"].astype(int) - reference.reshape(-1)).mean()
                off = max(abs(a - b) for a, b in zip(answer["times"], reference_times, strict=True))
                if difference > MOST_DIFFERENCE or off > 0.002:
                    notes[tool] = f"other frames: pictures differ by {difference:.1f}, times by {off:.4f} s"
                    del best[tool]
    fair = {tool: seconds for tool, seconds in best.items() if tool in RIVALS}
    ratio, most = (min(fair.values()) / best[part] if fair else None for part in ("ours", "decoder"))
    return {"cell": cell.name, "b_frames": cell.b_frames, "seconds": best, "notes": notes, "ratio": ratio, "most": most}


def geometric_mean(ratios: list[float]) -> float | None:
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rivals", help="Python interpreter of the environment with torchcodec and decord2")
    parser.add_argument("--clips", type=Path, help="folder whose first five MP4 and Matroska files are measured too")
    parser.add_argument("--videos", type=Path, help="folder that keeps the generated videos; a temporary one if unset")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--everything-up-to-s", type=float, default=60.0, help="how far into a video decoding everything is tried"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vidtr-bench-") as scratch:
        folder = options.videos or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        videos: list[tuple[str, Path, bool | None]] = [
            (f"{kind}, {'B-frames' if b else 'no B-frames'}", video(folder, kind, b), b)
            for kind in KINDS
            for b in (True, False)
        ]
        if options.clips:
            real = [path for suffix in ("mp4", "mkv") for path in sorted(options.clips.glob(f"*.{suffix}"))]
            videos += [(path.name, path, None) for path in real if path.stat().st_size > 400_000][:5]
        rivals = Rivals(options.rivals, Path(scratch)) if options.rivals else None
        cells = [cell_of(*entry, windows) for entry in videos for windows in (1, 10)]
        results = []
        for cell in cells:
            result = measure(cell, rivals, options.rounds, options.everything_up_to_s)
            results.append(result)
            times = "  ".join(f"{tool} {1000 * seconds:.1f}" for tool, seconds in result["seconds"].items())
            ratio, most = (f"{result[part]:.2f}" if result[part] else "-" for part in ("ratio", "most"))
            print(f"{cell.name:55s} {ratio:>6s}× of at most {most}  ms: {times}  {result['notes'] or ''}", flush=True)
        if rivals:
            rivals.close()
    means = {part: geometric_mean([result[part] for result in results if result[part]]) for part in ("ratio", "most")}
    decoder_s, all_s = (sum(result["seconds"][part] for result in results) for part in ("decoder", "ours"))
    print(f"FFmpeg's decoder takes {decoder_s / all_s:.1%} of our time")
    if means["ratio"]:
        print(f"geometric mean against the best rival: {means['ratio']:.2f}×, of at most {means['most']:.2f}×")
    if options.json:
        report = {"python": sys.version, "av": av.__version__, "cells": results, "geometric_means": means}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
