"""Labeled videos in the layouts that public data sets use: which file, which labels, which group."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

VIDEOS = frozenset({".mp4", ".avi", ".mkv", ".mov", ".webm", ".mpg", ".mpeg", ".m4v"})


@dataclass(frozen=True)
class Sample:
    """One video; several labels where the set is multi-label. Videos of one `group` stay on one side of a split."""

    path: Path
    labels: tuple[str, ...]
    group: str


def read_folder(videos: Path, annotations: Path | None) -> list[Sample]:
    """`<videos>/<label>/<file>`."""
    root = annotations or videos
    found = sorted(p for p in root.rglob("*") if p.suffix.lower() in VIDEOS)
    return [Sample(path, (path.parent.name,), str(path)) for path in found]


def read_csv(videos: Path, annotations: Path | None) -> list[Sample]:
    """A table with the columns `file` and `label`, and `source_group` where clips share an original."""
    return [
        Sample(videos / row["file"], (row["label"],), row.get("source_group") or row["file"])
        for row in _rows(annotations)
    ]


def read_kinetics(videos: Path, annotations: Path | None) -> list[Sample]:
    """Kinetics' tables: files are `<youtube id>_<start>_<end>.<ext>`, in a folder of the label or at the top."""
    samples = []
    for row in _rows(annotations):
        stem = f"{row['youtube_id']}_{int(float(row['time_start'])):06d}_{int(float(row['time_end'])):06d}"
        path = _first_existing([videos / row["label"] / stem, videos / stem])
        samples.append(Sample(path, (row["label"],), row["youtube_id"]))
    return samples


def read_something_something(videos: Path, annotations: Path | None) -> list[Sample]:
    """Something-Something's JSON list of `id` and `template`, whose brackets are no part of the label."""
    entries = json.loads(_given(annotations).read_text(encoding="utf-8"))
    return [
        Sample(
            _first_existing([videos / str(e["id"])]), (e["template"].replace("[", "").replace("]", ""),), str(e["id"])
        )
        for e in entries
    ]


def read_ucf101(videos: Path, annotations: Path | None) -> list[Sample]:
    """Lines `<label>/<file> [number]` of a UCF101 split list; clips of one `_gNN_` group share a source."""
    samples = []
    for line in _given(annotations).read_text(encoding="utf-8").splitlines():
        if line.strip():
            name = line.split()[0]
            group = re.search(r"_(g\d+)_", name)
            label = name.partition("/")[0]
            samples.append(Sample(videos / name, (label,), f"{label}_{group[1]}" if group else name))
    return samples


def read_hmdb51(videos: Path, annotations: Path | None) -> list[Sample]:
    """HMDB51's split folder for the training set, or `<folder>:test`: files `<label>_test_split<n>.txt`."""
    folder, _, part = str(_given(annotations)).partition(":")
    wanted = "2" if part == "test" else "1"
    samples = []
    for path in sorted(Path(folder).glob("*_test_split*.txt")):
        label = path.name.split("_test_split")[0]
        for line in path.read_text(encoding="utf-8").splitlines():
            name, _, use = line.strip().rpartition(" ")
            if use == wanted:
                samples.append(Sample(videos / label / name.strip(), (label,), name.strip()))
    return samples


def read_charades(videos: Path, annotations: Path | None) -> list[Sample]:
    """Charades' table: `actions` holds `<class> <start> <end>` triples, parted by semicolons."""
    samples = []
    for row in _rows(annotations):
        actions = sorted({a.split()[0] for a in row["actions"].split(";") if a.strip()})
        samples.append(Sample(_first_existing([videos / row["id"]]), tuple(actions), row.get("subject") or row["id"]))
    return samples


READERS: dict[str, Callable[[Path, Path | None], list[Sample]]] = {
    "folder": read_folder,
    "csv": read_csv,
    "kinetics": read_kinetics,
    "something_something": read_something_something,
    "ucf101": read_ucf101,
    "hmdb51": read_hmdb51,
    "charades": read_charades,
}


def deal_folds(samples: Sequence[Sample], folds: int) -> list[int]:
    """The fold of each sample: groups, in the order of their names, go to the fold that holds the fewest samples."""
    sizes = [0] * folds
    fold_of: dict[str, int] = {}
    members: dict[str, int] = {}
    for sample in samples:
        members[sample.group] = members.get(sample.group, 0) + 1
    for group in sorted(members, key=lambda g: (-members[g], g)):
        fold = sizes.index(min(sizes))
        fold_of[group] = fold
        sizes[fold] += members[group]
    return [fold_of[sample.group] for sample in samples]


def _given(annotations: Path | None) -> Path:
    if annotations is None:
        raise ValueError("this kind of data needs `annotations`")
    return annotations


def _rows(annotations: Path | None) -> list[dict[str, str]]:
    with _given(annotations).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _first_existing(stems: Sequence[Path]) -> Path:
    for stem in stems:
        for suffix in sorted(VIDEOS):
            path = stem.with_name(stem.name + suffix)
            if path.exists():
                return path
    return stems[0].with_name(stems[0].name + ".mp4")
