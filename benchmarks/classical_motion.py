"""Camera motion by classical means: corners tracked between the frames of a window, and a cut detector.

What a network has to beat: corners (Shi and Tomasi) followed by pyramidal Lucas-Kanade between the sampled frames of a
window, a similarity transform by RANSAC for each pair of them, and rules on the transforms; cuts by the histograms of
all frames in between, and, beside it, by PySceneDetect's adaptive detector. Needs the extra `bench`.

`python -m benchmarks.classical_motion truth.csv --videos FOLDER --out answers` answers every window of a table as
`vidtr evaluate --truth` reads it, in the form that its `--beside` takes: `answers/classical.csv`, and in
`answers/pyscenedetect.csv` the cuts alone. `answers/truth.csv` is the table with the `components` of windows of several
motions, as measured, where it does not say them itself.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from service.evaluation.window_figures import SEVERAL

LONG_SIDE = 320
FRAMES, STEP_S = 8, 4 / 30
_DIRECTED = (
    ("pan_right", "pan_left"),
    ("tilt_down", "tilt_up"),
    ("zoom_in", "zoom_out"),
    ("roll_ccw", "roll_cw"),
)
"""For each component of `Motion.steps` what the camera does where the picture's content goes left, up, larger, and
turns clockwise on the screen."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """From transforms to a label. Motions in shares of the frame's width per sampled frame, at the frame's border."""

    still: float = 0.0012
    """Mean motion under which a component does not count."""
    tremor: float = 0.006
    """Root mean square of what is left of the steps without their mean and trend, from which on a window is shaken."""
    steady: float = 1.2
    """A directed motion has a mean of so many times the deviation of its steps at least."""
    second: float = 0.5
    """A second component of so much of the largest makes a window mixed."""
    noise: float = 0.8
    """A component of a window of several motions has a mean of so many times the deviation of its steps at least."""
    part: float = 0.25
    """And it is so much of the largest one at least."""
    points: int = 12
    """Fewer corners on the side of a transform say nothing."""
    inliers: float = 0.3
    """A transform that explains a smaller share of the corners says nothing."""
    known: int = 5
    """Pairs that must say something."""
    cut: float = 0.75
    """Correlation of the histograms of neighboring frames under which there is a cut: in surveillance videos that are
    cut nowhere 99 % of windows stay above 0.9, and of frames of two such videos 95 % lie below 0.6."""


@dataclass(frozen=True)
class Motion:
    """What was measured in a window."""

    steps: NDArray[np.float64]
    """`(T-1, 4)` motion of the content from frame to frame: to the left, up, outwards, clockwise; NaN where unknown."""
    correlation: NDArray[np.float64]
    """`(N-1,)` of the histograms of neighboring frames of all those in the window."""
    level: NDArray[np.float64]
    """`(T,)` standard deviation of the gray levels of each sampled frame, 0 to 255."""


def read_window(path: Path, start_s: float, end_s: float) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    """The sampled frames of a window and all frames from the first to the last of them, RGB, 320 pixels at most.

    Raises av.FFmpegError where the file does not open and ValueError where the window holds no frame.
    """
    wanted = [start_s + STEP_S * i for i in range(FRAMES)]
    times: list[float] = []
    frames: list[NDArray[np.uint8]] = []
    held: tuple[float, av.VideoFrame] | None = None
    first: float | None = None

    def keep(at: float, frame: av.VideoFrame) -> None:
        scale = min(1.0, LONG_SIDE / max(frame.width, frame.height))
        size = (max(2, round(frame.width * scale)), max(2, round(frame.height * scale)))
        small = frame.reformat(*size, format="rgb24", interpolation="AREA").to_ndarray()
        turned = np.rot90(small, round(frame.rotation / 90) % 4)
        times.append(at)
        frames.append(np.ascontiguousarray(turned, dtype=np.uint8))

    with av.open(str(path), metadata_errors="replace") as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        try:
            for frame in container.decode(stream):
                if frame.time is None:
                    continue
                first = frame.time if first is None else first
                at = frame.time - first
                if at > end_s + 1e-6:
                    break
                if at < start_s:
                    held = (at, frame)
                    continue
                if held is not None:
                    keep(*held)
                    held = None
                keep(at, frame)
        except av.FFmpegError:
            pass  # what decoded before the damage is what there is
    if not frames and held is not None:
        keep(*held)
    if not frames:
        raise ValueError(f"{path.name} has no frame between {start_s} and {end_s} s")
    chosen = [max(0, int(np.searchsorted(times, moment + 1e-6, side="right")) - 1) for moment in wanted]
    return [frames[i] for i in chosen], frames[chosen[0] : chosen[-1] + 1]


def measure(sampled: Sequence[NDArray[np.uint8]], between: Sequence[NDArray[np.uint8]], rules: Rules) -> Motion:
    """Track corners between the sampled frames `(H, W, 3)` and compare the histograms of the frames in between."""
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in sampled]
    steps = np.stack([_step(a, b, rules) for a, b in pairwise(gray)])
    seen = [_histogram(frame) for frame in between]
    correlation = np.array([np.corrcoef(a, b)[0, 1] for a, b in pairwise(seen)] or [1.0])
    return Motion(steps, correlation, np.array([float(frame.std()) for frame in gray]))


def _step(before: Any, after: Any, rules: Rules) -> NDArray[np.float64]:
    unknown = np.full(4, np.nan)
    height, width = before.shape
    corners = cv2.goodFeaturesToTrack(before, 400, 0.01, 5)
    if corners is None or len(corners) < rules.points:
        return unknown
    # The stubs of OpenCV do not know that the place of the result may be left to it.
    track: Any = cv2.calcOpticalFlowPyrLK
    there, found, _ = track(before, after, corners, None, winSize=(15, 15), maxLevel=4)
    back, found_back, _ = track(after, before, there, None, winSize=(15, 15), maxLevel=4)
    agree = (np.abs(back - corners).reshape(-1, 2).max(1) < 0.7) & (found[:, 0] == 1) & (found_back[:, 0] == 1)
    if agree.sum() < rules.points:
        return unknown
    middle = np.array([width / 2, height / 2])
    a, b = (points.reshape(-1, 2)[agree] - middle for points in (corners, there))
    matrix, inside = cv2.estimateAffinePartial2D(a, b, method=cv2.RANSAC, ransacReprojThreshold=1.0, maxIters=500)
    if matrix is None or inside.mean() < rules.inliers:
        return unknown
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    turn = float(np.arctan2(matrix[1, 0], matrix[0, 0]))
    return np.array([-matrix[0, 2] / width, -matrix[1, 2] / width, np.log(scale) / 2, turn / 2])


def _histogram(frame: NDArray[np.uint8]) -> NDArray[np.float64]:
    hsv = cv2.cvtColor(frame, cv2.COLOR_RGB2HSV)
    # The root makes it a matter of many colors instead of the most frequent one.
    return np.sqrt(cv2.calcHist([hsv], [0, 1, 2], None, [8, 4, 8], [0, 180, 0, 256, 0, 256]).ravel())


def label_of(motion: Motion, rules: Rules) -> str:
    """A label of `CAMERA_MOTION_LABELS`, or `mixed`, `hand` or `unknown`."""
    if motion.correlation.min() < rules.cut:
        return "cut"
    darkest, lightest = motion.level.min(), motion.level.max()
    if darkest < 0.25 * lightest and np.argmin(motion.level) in (0, len(motion.level) - 1):
        return "fade"
    known = motion.steps[np.isfinite(motion.steps[:, 0])]
    if len(known) < rules.known:
        return "unknown"
    mean = np.median(known, axis=0)
    # A move that speeds up or slows down is as steady as one that does not.
    time = np.linspace(-1, 1, len(known))[:, None]
    rest = known - known.mean(0) - time * (known * time).sum(0) / (time**2).sum()
    tremor = float(np.sqrt((rest[:, :2] ** 2).sum(1).mean()))
    size, deviation = np.abs(mean), rest.std(0)
    directed = (size > rules.still) & (size > rules.steady * deviation)
    if not directed.any():
        if tremor > rules.tremor:
            return "shake"
        return "static" if size.max() < 2 * rules.still else "hand"
    largest = int(np.argmax(size * directed))
    if tremor > max(rules.tremor, 1.5 * size[largest]):
        return "shake"
    if np.sort(size)[-2] > rules.second * size[largest]:
        return "mixed"
    return _DIRECTED[largest][int(mean[largest] < 0)]


def components_of(motion: Motion, rules: Rules) -> list[str]:
    """The directed motions of a window, whether or not one of them prevails; none where too little is known."""
    known = motion.steps[np.isfinite(motion.steps[:, 0])]
    if len(known) < rules.known:
        return []
    mean = known.mean(0)
    size = np.abs(mean)
    held = (size > rules.still) & (size > rules.noise * known.std(0)) & (size >= rules.part * size.max())
    return [_DIRECTED[i][int(mean[i] < 0)] for i in np.flatnonzero(held)]


def scene_cut(between: Sequence[NDArray[np.uint8]]) -> bool:
    """Whether PySceneDetect's adaptive detector, as it comes, finds a cut among successive frames `(H, W, 3)`."""
    from scenedetect import AdaptiveDetector
    from scenedetect.common import FrameTimecode

    detector = AdaptiveDetector(min_scene_len=1)
    cuts: list[Any] = []
    for number, frame in enumerate(between):
        cuts += detector.process_frame(FrameTimecode(number, 30.0), np.ascontiguousarray(frame[..., ::-1]))
    cuts += detector.post_process(FrameTimecode(len(between), 30.0))
    return bool(cuts)


def main() -> None:
    """Answer the windows of a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("truth", type=Path)
    parser.add_argument("--videos", type=Path, help="folder that the table's files lie in; that of the table if absent")
    parser.add_argument("--out", type=Path, required=True, help="folder of the answers")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    cv2.setRNGSeed(0)
    rules, root = Rules(), arguments.videos or arguments.truth.parent
    with arguments.truth.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    answers: dict[str, list[tuple[str, float]]] = {"classical": [], "pyscenedetect": []}
    for row in rows:
        sampled, between = read_window(root / row["file"], float(row["start_s"]), float(row["end_s"]))
        if row["truth"] in SEVERAL and not row.get("components"):
            row["components"] = " ".join(components_of(measure(sampled, between, rules), rules))
        answers["classical"].append(_timed(partial(_classical, sampled, between, rules)))
        answers["pyscenedetect"].append(_timed(partial(_cut_or_nothing, between)))
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "truth.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(dict.fromkeys((*rows[0], "components"))), restval="")
        table.writeheader()
        table.writerows(rows)
    for name, said in answers.items():
        with (arguments.out / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("file", "start_s", "end_s", "label", "cpu_s"))
            for row, (label, cpu_s) in zip(rows, said, strict=True):
                writer.writerow((row["file"], row["start_s"], row["end_s"], label, f"{cpu_s:.4f}"))


def _classical(sampled: Any, between: Any, rules: Rules) -> str:
    return label_of(measure(sampled, between, rules), rules)


def _cut_or_nothing(between: Any) -> str:
    return "cut" if scene_cut(between) else ""


def _timed(answer: Callable[[], str]) -> tuple[str, float]:
    began = time.process_time()
    return answer(), time.process_time() - began


if __name__ == "__main__":
    main()
