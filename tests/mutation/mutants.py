"""Scripts with one line less: each a fault that some test has to notice."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tests.mutation.scripts import Piece, Script, pieces

# `elseif` opens nothing, and a loop ends with the `end` of its `do`.
OPENS = re.compile(r"\b(?:if|for|while|function)\b")
CLOSES = re.compile(r"\bend\b")
TEXT = re.compile(r"'(?:[^'\\]|\\.)*'")
BRANCH = re.compile(r"^((?:else)?if) (.*?) then\b")
LAST_BRANCH = re.compile(r"^else (.+?)((?: end)*)$")


@dataclass(frozen=True)
class Mutant:
    """One change of one piece, in all scripts that contain it."""

    piece: Piece
    change: str
    line: str
    text: str
    """the piece after the change"""

    @property
    def id(self) -> tuple[str, str, str]:
        """Stays the same while the line does, wherever it stands."""
        return (self.piece.name, self.change, self.line)

    def __str__(self) -> str:
        return f"{self.piece.name}: {self.change}: {self.line}"

    def scripts(self) -> Iterator[tuple[Script, str]]:
        """The scripts that change, with their new texts."""
        for script in self.piece.scripts:
            yield script, script.text.replace(self.piece.text, self.text)


@dataclass(frozen=True)
class Statement:
    """Lines `first` to `last` of a piece; what it opens is closed in line `block_ends`."""

    text: str
    first: int
    last: int
    block_ends: int


def mutants() -> list[Mutant]:
    """All of them, in a fixed order. A line that a piece has twice is told apart by its number."""
    found = []
    for piece in pieces():
        seen: Counter[tuple[str, str]] = Counter()
        lines = piece.text.split("\n")
        for statement in statements(lines):
            for change, changed in _changes(lines, statement):
                seen[change, statement.text] += 1
                number = seen[change, statement.text]
                line = statement.text if number == 1 else f"{statement.text} #{number}"
                found.append(Mutant(piece, change, line, "\n".join(changed)))
    return found


def statements(lines: list[str]) -> list[Statement]:
    """The statements among the lines of a piece, without what only closes a block."""
    found: list[Statement] = []
    open_blocks: list[int] = []
    ends: dict[int, int] = {}
    at = 0
    while at < len(lines):
        if lines[at].lstrip().startswith("--"):
            at += 1
            continue
        last = at
        while _brackets(lines[at : last + 1]) > 0:
            last += 1
        text = " ".join(line.strip() for line in lines[at : last + 1])
        depth = _depth(text)
        if text and not re.fullmatch(r"(?:else|end)\b[ )]*", text):
            found.append(Statement(text, at, last, last))
        if depth > 0:
            open_blocks.append(len(found) - 1)
        for _ in range(-depth):
            ends[open_blocks.pop()] = last
        at = last + 1
    assert not open_blocks, "a block is not closed"
    return [
        Statement(one.text, one.first, one.last, ends.get(number, one.block_ends)) for number, one in enumerate(found)
    ]


def _changes(lines: list[str], statement: Statement) -> Iterator[tuple[str, list[str]]]:
    """Kind and result of every change to a statement."""
    before, after = lines[: statement.first], lines[statement.last + 1 :]
    text = statement.text
    opens = statement.block_ends > statement.last
    if opens and text.startswith("local function"):
        yield "emptied", [*before, text, *lines[statement.block_ends :]]
    elif opens and not BRANCH.match(text):
        yield "taken out", before + lines[statement.block_ends + 1 :]
    elif not opens and not text.startswith("else"):
        yield "taken out", before + after
    if branch := BRANCH.match(text):
        # Without its line a branch of one line is never taken.
        never = opens or text.startswith("elseif") or " else " in text
        for value in ("true", "false") if never else ("true",):
            changed = f"{branch[1]} {value} then{text[branch.end() :]}"
            yield ("always" if value == "true" else "never"), [*before, changed, *after]
    elif last := LAST_BRANCH.match(text):
        yield "taken out", [*before, f"else{last[2]}", *after]


def _brackets(lines: list[str]) -> int:
    text = TEXT.sub("", " ".join(lines))
    return sum(text.count(bracket) for bracket in "({[") - sum(text.count(bracket) for bracket in ")}]")


def _depth(text: str) -> int:
    """Blocks that are open after a statement and were not before."""
    text = TEXT.sub("", text)
    return len(OPENS.findall(text)) - len(CLOSES.findall(text))
