"""Cuts of videos with many shots: the service with `windows=all` beside PySceneDetect's adaptive detector, in one run.

    python -m benchmarks.cuts SHOTS [SHOTS ...] [--videos 12] [--json FILE]

SHOTS are folders of videos of one shot each, such as a set that `vidtr footage` made. Shots of different files are
joined, at random places and through a real encoder, so that every cut is known.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from service.cli.in_process import classifier_in_process
from service.contracts import JobRequest, JobResult, WindowResult
from service.evaluation.shots import video_files
from service.settings import Settings
from testing.videos import Image, write_video

FPS, SIZE = 30, (320, 180)
SHORTEST_S, LONGEST_S = 0.8, 3.0
LEAST_CHANGE = 12.0
"""Mean difference of gray levels across a cut; below it nobody could tell the two shots apart."""
TOLERANCE_S = 0.25
NO_SHOTS = frozenset({"cut", "fade"})

Frames = NDArray[np.uint8]


def joined(files: Sequence[Path], shots: int, rng: np.random.Generator, out: Path) -> list[float]:
    """Write a video of `shots` random shots and return the times of its cuts, in seconds."""
    frames: list[Image] = []
    cuts: list[float] = []
    for index in rng.permutation(len(files)):
        shot = _stretch(_read(files[int(index)]), rng)
        if len(shot) < SHORTEST_S * FPS or (frames and _change(frames[-1], shot[0]) < LEAST_CHANGE):
            continue
        cuts += [len(frames) / FPS] if frames else []
        frames += list(shot)
        if len(cuts) == shots - 1:
            break
    write_video(out, len(frames), fps=FPS, size=SIZE, draw=lambda number, width, height: frames[number])
    return cuts


def shown(result: JobResult) -> list[float]:
    """Where the shots of an answer begin that follow a cut, in seconds: found in the decoder, whatever the model."""
    return [shot.start_s for shot in result.shots or () if shot.transition == "cut"]


def said(result: JobResult) -> list[float]:
    """Where the model sees cuts: in windows whose label `cut` holds, between the two frames attended to most."""
    return merged([_place(window) for window in result.windows if _has_cut(window)])


def merged(times: Sequence[float]) -> list[float]:
    """Times in order; of those closer than the tolerance only the first, since windows may overlap."""
    kept: list[float] = []
    for at in sorted(times):
        if not kept or at - kept[-1] > TOLERANCE_S:
            kept.append(at)
    return kept


def matched(truth: Sequence[float], found: Sequence[float]) -> int:
    """How many cuts are found: each within the tolerance of a time of its own."""
    left, hits = sorted(found), 0
    for cut in sorted(truth):
        near = next((at for at in left if abs(at - cut) <= TOLERANCE_S), None)
        if near is not None:
            left.remove(near)
            hits += 1
    return hits


def figures(hits: int, truth: int, found: int) -> dict[str, float]:
    """Precision, recall and F1, with the numbers they are made of."""
    precision, recall = hits / max(1, found), hits / max(1, truth)
    f1 = 2 * hits / max(1, truth + found)
    return {"hits": hits, "cuts": truth, "said": found, "precision": precision, "recall": recall, "f1": f1}


def _has_cut(window: WindowResult) -> bool:
    first = window.predictions[0]
    return any(p.label == "cut" and (p.passes if p.passes is not None else p is first) for p in window.predictions)


def _place(window: WindowResult) -> float:
    attention = window.attention or ()
    peak = max(range(len(attention)), key=lambda slot: attention[slot].score)
    beside = [slot for slot in (peak - 1, peak + 1) if 0 <= slot < len(attention)]
    other = max(beside, key=lambda slot: attention[slot].score)
    return (attention[peak].time_s + attention[other].time_s) / 2


def detected(path: Path) -> list[float]:
    """Where PySceneDetect's adaptive detector, as it comes, sees cuts."""
    from scenedetect import AdaptiveDetector, detect

    return [float(start.seconds) for start, _ in detect(str(path), AdaptiveDetector())[1:]]


def _read(path: Path) -> list[Image]:
    """The frames of a file at the rate and size of the videos."""
    shown: list[tuple[float, Image]] = []
    with av.open(str(path)) as container:
        stream: Any = container.streams.video[0]
        for frame in container.decode(stream):
            picture: Image = frame.reformat(*SIZE, format="rgb24", interpolation="AREA").to_ndarray().astype(np.uint8)
            shown.append((float(frame.time or 0.0), picture))
            if len(shown) > LONGEST_S * 70:
                break
    if not shown:
        return []
    times = np.array([at for at, _ in shown]) - shown[0][0]
    wanted = np.arange(0, times[-1], 1 / FPS)
    return [shown[int(place)][1] for place in np.searchsorted(times, wanted + 1e-6, side="right") - 1]


def _stretch(frames: list[Image], rng: np.random.Generator) -> list[Image]:
    length = min(len(frames), round(FPS * rng.uniform(SHORTEST_S, LONGEST_S)))
    start = int(rng.integers(0, len(frames) - length + 1))
    return frames[start : start + length]


def _change(one: Image, other: Image) -> float:
    return float(np.abs(one.mean(axis=2) - other.mean(axis=2)).mean())


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shots", nargs="+", type=Path, help="folders of videos of one shot each")
    parser.add_argument("--videos", type=int, default=12)
    parser.add_argument("--each", type=int, default=10, help="shots of a video")
    parser.add_argument("--model", help="the default model when absent")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    files = [path for path in video_files(given.shots) if path.parent.name not in NO_SHOTS]
    rng = np.random.default_rng(given.seed)
    counts = {who: [0, 0, 0] for who in ("shots of the answer", "windows of the model", "AdaptiveDetector")}
    options = JobRequest(model=given.model, windows="all", top_k=1000)
    with tempfile.TemporaryDirectory(prefix="cuts-") as scratch, classifier_in_process(Settings()) as service:
        for number in range(given.videos):
            path = Path(scratch) / f"{number}.mp4"
            truth = joined(files, given.each, rng, path)
            result = service.classify(path, options)
            for who, found in zip(counts, (shown(result), said(result), detected(path)), strict=True):
                for place, more in enumerate((matched(truth, found), len(truth), len(found))):
                    counts[who][place] += more
    results = {who: figures(*numbers) for who, numbers in counts.items()}
    table = Table("", "F1", "precision", "recall", "cuts", "said")
    for who, row in results.items():
        table.add_row(
            who, *(f"{row[name]:.3f}" for name in ("f1", "precision", "recall")), f"{row['cuts']}", f"{row['said']}"
        )
    Console().print(table)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
