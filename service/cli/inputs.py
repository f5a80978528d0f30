"""Which videos a command line means: files, folders, patterns, URLs and standard input."""

from __future__ import annotations

import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.client import VideoUrl
from service.contracts import JobRequest

STDIN = "-"
BUCKETS = ("s3://", "gs://")
URLS = ("https://", "http://", *BUCKETS)

SUFFIXES = frozenset(
    ".3gp .avi .flv .gif .m2ts .m2v .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .webm .webp .wmv".split()
)
"""Names that are taken for videos inside a folder. A file that is named itself is always taken."""


@dataclass(frozen=True)
class Input:
    """A video and what it is called in the answers."""

    name: str
    video: Path | VideoUrl
    options: JobRequest | None = None
    """its own, instead of those of the command"""
    listed: bool = False
    """whether it was found below a prefix of a bucket"""


Listing = Callable[[str], Iterable[str]]
"""URLs of the objects below a prefix of a bucket"""


def expand(arguments: Sequence[str], scratch: Path, objects_below: Listing) -> list[Input]:
    """The videos in the order of the arguments, folders and patterns by name, each once.

    A URL stands for itself, and one of a bucket that ends with a slash for all videos below it, which `objects_below`
    lists; a folder stands for all videos below it, hidden ones left out; a pattern that no shell has expanded (`**` is
    any number of folders) for what it matches; `-` for standard input, which is copied into the folder `scratch`. A
    name that does not exist is kept: it is reported with the others.
    """
    found: dict[Path | VideoUrl, Input] = {}
    for argument in arguments:
        if argument.startswith(URLS):
            listed = _is_prefix(argument)
            for url in _below(argument, objects_below) if listed else (argument,):
                found.setdefault(VideoUrl(url), Input(printable(url), VideoUrl(url), listed=listed))
            continue
        for name in _names(argument):
            path = _standard_input(scratch) if name == STDIN else Path(name)
            found.setdefault(path.resolve(), Input(printable(name), path))
    return list(found.values())


def printable(name: str) -> str:
    """The name of a file as text that can be written and read anywhere: bytes that are no UTF-8 as `\\xff`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _is_prefix(url: str) -> bool:
    """Whether it names no object of a bucket, but all below it."""
    return url.startswith(BUCKETS) and (url.endswith("/") or "/" not in url.partition("://")[2])


def _below(url: str, objects_below: Listing) -> list[str]:
    return sorted(found for found in objects_below(url) if found.lower().endswith(tuple(SUFFIXES)))


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
