"""Which videos a command line means: files, folders, patterns and standard input."""

from __future__ import annotations

import glob
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

STDIN = "-"

SUFFIXES = frozenset(
    ".3gp .avi .flv .gif .m2ts .m2v .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .webm .webp .wmv".split()
)
"""Names that are taken for videos inside a folder. A file that is named itself is always taken."""


@dataclass(frozen=True)
class Input:
    """A video and what it is called in the answers."""

    name: str
    path: Path


def expand(arguments: Sequence[str], scratch: Path) -> list[Input]:
    """The videos in the order of the arguments, folders and patterns by name, each once.

    A folder stands for all videos below it, hidden ones left out; a pattern that no shell has expanded (`**` is any
    number of folders) for what it matches; `-` for standard input, which is copied into the folder `scratch`. A name
    that does not exist is kept: it is reported with the others.
    """
    found: dict[Path, Input] = {}
    for argument in arguments:
        for name in _names(argument):
            path = _standard_input(scratch) if name == STDIN else Path(name)
            found.setdefault(path.resolve(), Input(name, path))
    return list(found.values())


def _names(argument: str) -> Iterator[str]:
    if argument == STDIN:
        yield argument
    elif Path(argument).is_dir():
        yield from map(str, _videos_below(Path(argument)))
    elif not Path(argument).exists() and glob.has_magic(argument):
        for name in sorted(glob.glob(argument, recursive=True)):
            if not Path(name).is_dir():
                yield name
    else:
        yield argument


def _videos_below(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from _videos_below(entry)
        elif entry.suffix.lower() in SUFFIXES:
            yield entry


def _standard_input(scratch: Path) -> Path:
    path = scratch / "standard-input"
    if not path.exists():
        with tempfile.NamedTemporaryFile(dir=scratch, delete=False) as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        Path(copy.name).rename(path)
    return path
