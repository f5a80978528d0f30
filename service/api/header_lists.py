"""Headers that are lists: `Prefer`, `Accept`. Elements, their values and their parameters, quoted or not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from starlette.datastructures import Headers

# A quoted text may contain commas and semicolons that separate nothing. One without an end goes to that of the header:
# looking for other ends would take the square of its length.
_QUOTED = r'"(?:[^"\\]|\\.)*\\?(?:"|\Z)'
_ELEMENT = re.compile(rf"(?:{_QUOTED}|[^,\"])+", re.S)
_PART = re.compile(rf"(?:{_QUOTED}|[^;\"])+", re.S)
_CLOSED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.S)


@dataclass(frozen=True)
class Element:
    """One element of a list, such as `wait=5` or `text/html;q=0.5`; names are lower case."""

    name: str
    value: str = ""
    """empty where there is none, which RFC 7240 takes for the same"""
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def quality(self) -> float:
        """The weight `q` (RFC 9110), 1 where it is missing or no number from 0 to 1."""
        text = self.parameters.get("q", "1")
        return float(text) if re.fullmatch(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?", text) else 1.0


def joined(headers: Headers, name: str) -> str | None:
    """All fields of one name as one list: several mean the same as one with commas. None where there are none."""
    fields = headers.getlist(name)
    return ", ".join(fields) if fields else None


def elements(text: str | None) -> Iterator[Element]:
    """The elements of a list in their order; empty ones are left out."""
    for element in _ELEMENT.findall(text or ""):
        (name, value), *parameters = [_pair(part) for part in _PART.findall(element)] or [("", "")]
        if name:
            yield Element(name, value, dict(parameters))


def _pair(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    value = value.strip()
    if (quoted := _CLOSED.fullmatch(value)) is not None:
        value = re.sub(r"\\(.)", r"\1", quoted[1])
    return name.strip().lower(), value
