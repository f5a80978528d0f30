"""The scripts that the queue sends to Redis, and the files that they are composed of."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import service.queue
from service.queue.scripts import load, pieces_of, source

FOLDER = Path(service.queue.__path__[0]) / "lua"


@dataclass(frozen=True)
class Script:
    """A script, with the fragments that it includes."""

    name: str
    text: str


@dataclass(frozen=True)
class Piece:
    """One file: a script without its fragments, or a fragment that several scripts share."""

    name: str
    text: str
    scripts: tuple[Script, ...]
    """those that contain it"""


@functools.cache
def scripts() -> tuple[Script, ...]:
    """Every script of the queue."""
    return tuple(Script(file.stem, load(file.stem).text) for file in sorted(FOLDER.glob("*.lua")))


@functools.cache
def pieces() -> tuple[Piece, ...]:
    """All text that is sent to Redis as a script, each line in one piece only."""
    names = [file.relative_to(FOLDER).with_suffix("").as_posix() for file in sorted(FOLDER.rglob("*.lua"))]
    return tuple(
        Piece(name, source(name), tuple(script for script in scripts() if name in pieces_of(script.name)))
        for name in names
    )
