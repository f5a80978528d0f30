"""The scripts that the queue registers with Redis, and the pieces of text that they are put together from."""

from __future__ import annotations

import ast
import functools
import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import service.queue


@dataclass(frozen=True)
class Script:
    """What one module registers: the stores read the module's global `name` when they are made."""

    module: str
    name: str
    text: str


@dataclass(frozen=True)
class Piece:
    """Text of one constant: a script without what it shares with others, or what several scripts share."""

    name: str
    text: str
    scripts: tuple[Script, ...]
    """those that contain it"""


@functools.cache
def registered() -> tuple[Script, ...]:
    """Every script of `service.queue`, by the module that registers it."""
    scripts = []
    for module, tree in _modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "register_script":
                [argument] = node.args
                assert isinstance(argument, ast.Name), f"{module} registers something without a name"
                text = getattr(importlib.import_module(module), argument.id)
                scripts.append(Script(module, argument.id, text))
    return tuple(scripts)


@functools.cache
def pieces() -> tuple[Piece, ...]:
    """All text that is sent to Redis as a script, each line in one piece only."""
    scripts = registered()
    constants = list(_constants())
    whole = {script.text for script in scripts}
    shared = [
        Piece(name, text, tuple(script for script in scripts if text in script.text))
        for name, text in constants
        if text not in whole and any(text in script.text for script in scripts)
    ]
    own = []
    for script in scripts:
        text = script.text
        for piece in shared:
            text = text.replace(piece.text, "")
        [name] = [name for name, value in constants if value == script.text]
        own.append(Piece(name, text, (script,)))
    return (*shared, *own)


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for info in pkgutil.iter_modules(service.queue.__path__, f"{service.queue.__name__}."):
        file = importlib.import_module(info.name).__file__
        assert file is not None
        yield info.name, ast.parse(Path(file).read_text())


def _constants() -> Iterator[tuple[str, str]]:
    """Name and value of the texts in scripts that the modules define, such as `stream_scripts.TAKE`."""
    texts = [script.text for script in registered()]
    for module, tree in _modules():
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                value = getattr(importlib.import_module(module), node.targets[0].id)
                if value in texts or (
                    isinstance(value, str) and value[:1] == "\n" and any(value in one for one in texts)
                ):
                    yield f"{module.rsplit('.', 1)[1]}.{node.targets[0].id}", value
