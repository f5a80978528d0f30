"""A test set of real footage with known camera motion: windows moved over shots whose own camera stands still.

A set is a folder: `<class>/<number>.mp4`, written by real encoders, `unaltered/` with the still videos as they were
found, and `footage.csv` that says of each file what it shows and where it comes from.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from service.evaluation.camera_paths import sample_path
from service.evaluation.crop import crop, shows_edges
from service.evaluation.shots import Shot, read_shots, stillness, video_files
from service.model.presets import CAMERA_MOTION_LABELS as LABELS

TABLE = "footage.csv"
_STILL, _EDGES = 0.6, 0.08
_ASPECTS = (1.0, 4 / 3, 16 / 9)
_ATTEMPTS = 60
_LEAST_CHANGE = 25.0
"""Mean gray levels by which a cut or a fade must change the picture: others could not be seen."""


@dataclass(frozen=True)
class Entry:
    """A row of the table."""

    file: str
    label: str
    source: str
    unaltered: bool
    speed: float = 0.0
    """In the units of `service.evaluation.camera_paths.RANGES`."""
    start_s: float = 0.0
    """Where the window to classify begins; of unaltered videos only."""
    cut_s: float = -1.0
    """When the second shot begins; -1 where there is none."""
    fps: float = 0.0
    codec: str = ""


@dataclass(frozen=True)
class RealTestSetConfig:
    """What a set is made of and for which clips: `frames` of them, `interval_s` apart."""

    each: int = 60
    frames: int = 8
    interval_s: float = 4 / 30
    shots_each: int = 4
    seed: int = 0


def build_real_test_set(
    sources: Sequence[Path], out: Path, config: RealTestSetConfig, on_progress: Callable[[str, int, int], None]
) -> list[Entry]:
    """Make the set in the folder `out` and return its table; `on_progress(what, done, all)` reports the progress.

    Raises ValueError where no still shot of two different videos is found, or too few for some class.
    """
    rng = np.random.default_rng(config.seed)
    length = config.frames * config.interval_s + 0.1
    stills: list[Shot] = []
    unaltered: list[Entry] = []
    files = video_files(sources)
    for number, path in enumerate(files):
        on_progress("looking for still cameras", number, len(files))
        for shot in read_shots(path, length, config.shots_each):
            still, edges = stillness(shot.frames)
            if still >= _STILL and edges >= _EDGES:
                stills.append(shot)
                name = f"unaltered/{path.parent.name}__{path.name}"
                unaltered.append(
                    Entry(name, "static", str(path), True, start_s=round(shot.start_s, 4), fps=round(shot.fps, 3))
                )
    if len({shot.path for shot in stills}) < 2:
        raise ValueError(f"{len(stills)} still shots in {len(files)} videos: shots of two videos are needed")
    made: list[Entry] = []
    for label in LABELS:
        (out / label).mkdir(parents=True, exist_ok=True)
        order = rng.permutation(len(stills))
        tries, done = 0, 0
        while done < config.each:
            if tries == _ATTEMPTS * config.each:
                raise ValueError(f"only {done} of {config.each} clips of {label} could be cut out of the still shots")
            shot = stills[int(order[tries % len(order)])]
            tries += 1
            entry = _make(label, shot, stills, out, done, config, rng)
            if entry:
                made.append(entry)
                done += 1
                on_progress(f"cropping {label}", len(made), config.each * len(LABELS))
    (out / "unaltered").mkdir(exist_ok=True)
    for entry in unaltered:
        if not (out / entry.file).exists():
            shutil.copyfile(entry.source, out / entry.file)
    _write_table(out / TABLE, [*made, *unaltered])
    return [*made, *unaltered]


def read_real_test_set(folder: Path) -> list[Entry]:
    """The table of a set.

    Raises OSError where there is none.
    """
    with (folder / TABLE).open(encoding="utf-8", newline="") as file:
        return [
            Entry(
                row["file"],
                row["label"],
                row["source"],
                row["unaltered"] == "True",
                float(row["speed"]),
                float(row["start_s"]),
                float(row["cut_s"]),
                float(row["fps"]),
                row["codec"],
            )
            for row in csv.DictReader(file)
        ]


def _write_table(path: Path, entries: Sequence[Entry]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Entry)])
        writer.writeheader()
        writer.writerows(asdict(entry) for entry in entries)


def _make(
    label: str,
    shot: Shot,
    stills: Sequence[Shot],
    out: Path,
    number: int,
    config: RealTestSetConfig,
    rng: np.random.Generator,
) -> Entry | None:
    """Write one clip; None where chance chose a window that does not fit or shows nothing."""
    count = len(shot.frames)
    times = np.arange(count) / shot.fps / config.interval_s
    aspect = float(rng.choice(_ASPECTS))
    path = sample_path(label, times, config.frames, rng)
    pictures = crop(shot.frames, path, aspect, rng)
    if pictures is None or not (shows_edges(pictures[0]) and shows_edges(pictures[-1])):
        return None
    cut_s = -1.0
    if label == "cut":
        slot = number % (config.frames - 1)
        # Of each slot the frame that is on show then, and a cut somewhere between the two.
        shown = [int(s * config.interval_s * shot.fps + 1e-6) for s in (slot, slot + 1)]
        first = int(rng.integers(shown[0] + 1, shown[1] + 1))
        second = _second_shot(shot, stills, pictures, first, aspect, times, config, rng)
        if second is None:
            return None
        pictures = np.concatenate([pictures[:first], second[first:]])
        cut_s = first / shot.fps
    elif label == "fade":
        pictures = _faded(pictures, path.light, rng)
        if _change(pictures[int(path.light.argmax())], pictures[int(path.light.argmin())]) < _LEAST_CHANGE:
            return None
    file = f"{label}/{number:03d}.mp4"
    codec = _encode(out / file, pictures, shot.fps, rng)
    return Entry(
        file, label, str(shot.path), False, round(path.speed, 5), 0.0, round(cut_s, 5), round(shot.fps, 3), codec
    )


def _second_shot(
    shot: Shot,
    stills: Sequence[Shot],
    before: NDArray[np.uint8],
    first: int,
    aspect: float,
    times: NDArray[np.float64],
    config: RealTestSetConfig,
    rng: np.random.Generator,
) -> NDArray[np.uint8] | None:
    other = stills[int(rng.integers(len(stills)))]
    if other.path == shot.path:
        return None
    # At the rate of the first shot, the nearest frame of the second: what an editing program does.
    nearest = np.minimum((np.arange(len(times)) / shot.fps * other.fps).astype(int), len(other.frames) - 1)
    path = sample_path("cut", times, config.frames, rng)
    after = crop(other.frames[nearest], path, aspect, rng, (before.shape[1], before.shape[2]))
    if after is None or not shows_edges(after[first]) or _change(before[first - 1], after[first]) < _LEAST_CHANGE:
        return None
    return after


def _faded(pictures: NDArray[np.uint8], light: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.uint8]:
    target = 0.0 if rng.random() < 0.6 else 255.0
    mixed = target + (pictures - target) * light[:, None, None, None]
    return mixed.round().clip(0, 255).astype(np.uint8)


def _change(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.abs(one.mean(axis=2) - other.mean(axis=2)).mean())


def _encode(path: Path, pictures: NDArray[np.uint8], fps: float, rng: np.random.Generator) -> str:
    """Write an MP4 and return the encoder's name."""
    codec = "libx264" if rng.random() < 0.75 else "mpeg4"
    options = {"threads": "1"}
    if codec == "libx264":
        options |= {"preset": "veryfast", "crf": str(rng.integers(18, 33))}
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = pictures.shape[1], pictures.shape[2], "yuv420p"
        stream.codec_context.gop_size = int(rng.integers(10, 120))
        if codec == "mpeg4":
            quality = int(rng.integers(2, 10))
            stream.codec_context.qmin = stream.codec_context.qmax = quality
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return codec
