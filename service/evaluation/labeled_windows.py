"""A table of windows of real videos that people looked at, and what a model says of them.

The table is a CSV file with the columns `file` (below the folder of the videos), `start_s`, `end_s` and `truth`, and,
where they are known, `slow` (1 for a slow motion), `weight` (how many windows of a larger pool this one stands for) and
`components` (labels, parted by blanks, that are right answers for a window with several motions).
"""

from __future__ import annotations

import csv
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from service.aggregate import STANDS_OUT, abstains, probabilities, ranked
from service.contracts import ClipSpec, JobRequest
from service.errors import VidtrError
from service.evaluation.candidates import Candidate
from service.video.clips import decode_file
from service.video.config import VideoLimits


@dataclass(frozen=True, kw_only=True)
class LabeledWindow:
    """A row of the table."""

    file: str
    start_s: float
    end_s: float
    truth: str
    """A label, or a word of the table's own for a window without a single right label: `mixed`, `hand`, `unclear`."""
    slow: bool = False
    weight: float = 1.0
    components: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What somebody says of a window."""

    label: str
    """Empty where nothing is said."""
    score: float | None = None
    cpu_s: float | None = None
    stands_out: bool | None = None
    """Whether a frame has so much attention that it is named; None where there is no attention."""


def read_windows(table: Path) -> list[LabeledWindow]:
    """The windows of a table.

    Raises OSError where it cannot be read, and ValueError naming the line and column of a value that does not fit.
    """
    windows = []
    for number, row in _rows(table, ("file", "start_s", "end_s", "truth")):
        start, end = (_number(row, name, table, number) for name in ("start_s", "end_s"))
        weight = _number(row, "weight", table, number) if row.get("weight") else 1.0
        if not (0 <= start < end and weight > 0):
            raise ValueError(f"{table.name}, line {number}: {start} to {end} s with weight {weight} is no window")
        windows.append(
            LabeledWindow(
                file=row["file"],
                start_s=start,
                end_s=end,
                truth=row["truth"],
                slow=row.get("slow") == "1",
                weight=weight,
                components=tuple((row.get("components") or "").split()),
            )
        )
    if not windows:
        raise ValueError(f"{table.name} holds no window")
    return windows


def read_answers(file: Path, windows: Sequence[LabeledWindow]) -> list[Answer]:
    """The answers to all windows out of a CSV file with their `file`, `start_s` and `end_s`, and a `label`.

    `score` and `cpu_s` may be there as well. Raises OSError where it cannot be read, and ValueError where a window has
    no answer or a value does not fit.
    """
    found = {}
    for number, row in _rows(file, ("file", "start_s", "end_s", "label")):
        score, cpu_s = (_number(row, name, file, number) if row.get(name) else None for name in ("score", "cpu_s"))
        key = _key(row["file"], *(_number(row, name, file, number) for name in ("start_s", "end_s")))
        found[key] = Answer(row["label"], score, cpu_s)
    answers = []
    for window in windows:
        key = _key(window.file, window.start_s, window.end_s)
        if key not in found:
            raise ValueError(f"{file.name} says nothing of {window.file} from {window.start_s} to {window.end_s} s")
        answers.append(found[key])
    return answers


def decode_windows(
    windows: Sequence[LabeledWindow],
    videos: Path,
    spec: ClipSpec,
    limits: VideoLimits,
    on_progress: Callable[[str, int, int], None],
) -> Tensor:
    """The clips of the windows, uint8 `(N, T, H, W, 3)`, as the service's own video package decodes them for the model.

    Raises ValueError naming a window that the video package refuses.
    """
    clips = []
    with tempfile.TemporaryDirectory(prefix="windows-") as scratch:
        raw = Path(scratch) / "clip.raw"
        for number, window in enumerate(windows):
            on_progress("decoding", number, len(windows))
            request = JobRequest(windows=1, start=window.start_s, end=window.end_s)
            try:
                decode_file(videos / window.file, raw, spec, request, limits)
            except (VidtrError, OSError) as error:
                reason = error.detail if isinstance(error, VidtrError) else error
                raise ValueError(f"{window.file} at {window.start_s} s does not decode: {reason}") from error
            clips.append(np.fromfile(raw, dtype=np.uint8).reshape(spec.clip_shape))
    return torch.from_numpy(np.stack(clips))


def answer_windows(candidate: Candidate, clips: Tensor, on_progress: Callable[[str, int, int], None]) -> list[Answer]:
    """The best label of each clip `(N, T, H, W, 3)`, with its score and the CPU time of the network, one by one."""
    _best(candidate, clips[:1])  # the first forward prepares itself
    answers = []
    for number in range(len(clips)):
        on_progress("classifying", number, len(clips))
        began = time.process_time()
        label, score, attention = _best(candidate, clips[number : number + 1])
        highest = float(attention.max()) * len(attention)
        answers.append(Answer(label, score, time.process_time() - began, highest >= STANDS_OUT))
    return answers


def _best(candidate: Candidate, clip: Tensor) -> tuple[str, float, Tensor]:
    """The first label that the service would answer with, and its score; the highest score of all where it abstains.

    Beside them the temporal attention `(T,)`.
    """
    output = candidate.score(clip)
    attention = output.temporal_attention[0]
    scores, labels = probabilities(output.logits[0].double().numpy(), candidate.activation), candidate.labels
    # Independent scores may all be low: then nothing is said.
    halves = (0.5,) * len(labels) if candidate.activation == "sigmoid" else ()
    thresholds = candidate.thresholds or halves
    (first,) = ranked(scores, labels, 1, 0.0, thresholds, candidate.qualifiers)
    if abstains(scores, labels, thresholds, candidate.qualifiers):
        highest = max(score for label, score in zip(labels, scores, strict=True) if label not in candidate.qualifiers)
        return "", float(highest), attention
    return first.label, first.score, attention


def _rows(file: Path, needed: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    with file.open(encoding="utf-8", newline="") as opened:
        reader = csv.DictReader(opened)
        if missing := [name for name in needed if name not in (reader.fieldnames or ())]:
            raise ValueError(f"{file.name} has no column {', '.join(missing)}")
        rows = []
        for row in reader:
            if any(row[name] is None for name in needed):
                raise ValueError(f"{file.name}, line {reader.line_num} ends early")
            rows.append((reader.line_num, row))
    return rows


def _number(row: dict[str, str], column: str, file: Path, line: int) -> float:
    try:
        return float(row[column])
    except ValueError as error:
        raise ValueError(f"{file.name}, line {line}: {column} is {row[column]!r}, no number") from error


def _key(file: str, start_s: float, end_s: float) -> tuple[str, int, int]:
    return file, round(1000 * start_s), round(1000 * end_s)
