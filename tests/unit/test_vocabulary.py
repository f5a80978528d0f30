"""One word for one thing: names that had several meanings, or none that a reader could guess, do not come back."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICE = ROOT / "service"
MODULES = sorted(SERVICE.rglob("*.py"))
PROSE = sorted([*MODULES, *(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")])

# Old names of classes, and the word of the glossary that took their place.
REPLACED = {
    "Room": "QueueCapacity",
    "RoomLimits": "CapacityConfig",
    "KeyRing": "ApiKeyStore",
    "Following": "JobEventStream",
    "Pulse": "Watchdog",
    "Turns": "ClassScheduler",
    "Gathering": "BatchDelay",
    "DecodePace": "DecodeScheduler",
    "EarlyAnswers": "EarlyResponseMiddleware",
    "Access": "Authenticator",
    "Caller": "Principal",
    "Recognised": "CacheLookup",
    "Cell": "SandboxWorker",
    "Cells": "SandboxPool",
    "HeldFile": "FdFile",
    "Run": "DecodeSegment, RunConfig or TrainedRun",
    "Key": "Keyframe",
    "Keys": "RedisKeys",
    "Lenient": "WireModel",
    "Served": "ExportModule or ModelInfo",
}


@cache
def classes(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ClassDef)}


def test_a_module_name_stands_in_one_package_only() -> None:
    places = defaultdict(list)
    for path in MODULES:
        if path.stem not in {"__init__", "config"}:
            places[path.stem].append(str(path.parent.relative_to(ROOT)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


@pytest.mark.parametrize("name", REPLACED)
def test_no_class_has_a_name_that_was_replaced(name: str) -> None:
    found = [str(path.relative_to(ROOT)) for path in MODULES if name in classes(path)]
    assert found == [], f"the word is {REPLACED[name]}"


def test_no_text_says_whoever() -> None:
    # The style guide quotes the word.
    named = [
        path for path in PROSE if path.name != "style.md" and re.search(r"\bwhoever\b", path.read_text("utf-8"), re.I)
    ]
    assert [str(path.relative_to(ROOT)) for path in named] == []


BRITISH = re.compile(
    r"\b(colour|behaviour|favour|honour|centre[ds]?\b|catalogue|licence|analyse|"
    r"(organ|recogn|normal|initial|serial|optim|summar|minim|maxim)is(e|ed|er|es|ing|ation)\b)",
    re.I,
)
# The style guide quotes some, file formats and other people's interfaces name others.
QUOTED = {"style.md", "changelog.md"}


def test_the_spelling_is_american() -> None:
    found = {
        str(path.relative_to(ROOT)): sorted({match[0] for match in BRITISH.finditer(path.read_text("utf-8"))})
        for path in PROSE
        if path.name not in QUOTED and BRITISH.search(path.read_text("utf-8"))
    }
    assert found == {}
