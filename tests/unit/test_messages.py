"""All messages have one form: they begin with a capital letter or a value, and end with a full stop."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

import service
from service.cli.main import app
from service.errors import VidtrError, error_types
from service.settings import Settings

ROOT = Path(service.__file__).parent
ERRORS = {kind.__name__ for kind in error_types().values()} | {kind.__name__ for kind in VidtrError.__subclasses__()}
UNWANTED = re.compile(r"\b(whoever|nobody|whom)\b", re.IGNORECASE)
VALUE = "\N{REPLACEMENT CHARACTER}"
"""stands for a value that is known when the message is made"""


def formatted(part: ast.expr) -> str:
    match part:
        case ast.Constant(value=text):
            return str(text)
        case ast.FormattedValue(value=ast.Call(func=ast.Name(id="sentence"))):
            return f"{VALUE}."
    return VALUE


def text_of(node: ast.expr) -> str | None:
    """What a literal reads like, with `VALUE` for each formatted value; None for what is no literal."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(map(formatted, parts))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return f"{text_of(left) or VALUE}{text_of(right) or VALUE}"
    return None


def messages(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of each error's message and of each `detail`."""
    for node in ast.walk(tree):
        found: list[ast.expr] = []
        match node:
            case ast.Call(func=ast.Name(id=name), args=[first, *_]) if name in ERRORS:
                found = [first]
            case ast.Assign(targets=[ast.Name(id="detail")], value=value):
                found = [value]
        if isinstance(node, ast.Call):
            found += [word.value for word in node.keywords if word.arg == "detail"]
        for expression in found:
            branches = [expression.body, expression.orelse] if isinstance(expression, ast.IfExp) else [expression]
            yield from ((branch.lineno, text) for branch in branches if (text := text_of(branch)))


def faults(text: str) -> list[str]:
    """What is wrong with the form of a message."""
    found = []
    if not re.match(rf"[A-Z0-9{VALUE}`\"'(/-]", text):
        found.append("begins with no capital letter")
    # A value after the full stop is a sentence of its own, or nothing.
    if not text.removesuffix(VALUE if text.endswith(f".{VALUE}") else "").rstrip(")`\"'").endswith("."):
        found.append("ends without a full stop")
    if UNWANTED.search(text):
        found.append("has an unwanted word")
    return found


def told(place: str, text: str) -> list[str]:
    return [f"{place}: {fault}: {text!r}" for fault in faults(text)]


def test_messages_of_errors_are_sentences() -> None:
    wrong, count = [], 0
    for path in sorted(ROOT.rglob("*.py")):
        for line, text in messages(ast.parse(path.read_text(encoding="utf-8"))):
            count += 1
            wrong += told(f"{path.relative_to(ROOT.parent)}:{line}", text)
    assert count > 100
    assert not wrong, "\n".join(wrong)


def test_descriptions_of_settings_are_sentences() -> None:
    wrong = [fault for name, field in Settings.model_fields.items() for fault in told(name, field.description or "")]
    assert not wrong, "\n".join(wrong)


def commands(command: object, name: str = "vidtr") -> Iterator[tuple[str, TyperCommand | TyperGroup]]:
    assert isinstance(command, TyperCommand | TyperGroup)
    yield name, command
    if isinstance(command, TyperGroup):
        for child_name, child in command.commands.items():
            yield from commands(child, f"{name} {child_name}")


def test_help_texts_of_commands_are_sentences() -> None:
    wrong = []
    found = list(commands(typer.main.get_command(app)))
    assert len(found) > 10
    for name, command in found:
        wrong += told(name, command.help or "")
        for parameter in command.params:
            if parameter.name not in ("help", "install_completion", "show_completion"):
                wrong += told(f"{name} {parameter.name}", getattr(parameter, "help", None) or "")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "text", ["the upload is empty.", "The upload is empty", "Nobody serves this model.", f"{VALUE} is unknown"]
)
def test_a_message_of_another_form_is_found(text: str) -> None:
    assert faults(text)
