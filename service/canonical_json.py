"""JSON in its one canonical form, by RFC 8785: the same values are the same bytes, however they were written."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from json.encoder import encode_basestring
from math import isfinite
from typing import Any

# Beyond it two whole numbers are one in programs that read numbers as FP64.
MAX_WHOLE = 2**53 - 1
# Below the one, and from the other on, ECMAScript writes numbers with an exponent.
FIRST_SMALL, FIRST_LARGE = 1e-6, 1e21


def canonical_json(value: Any) -> bytes:
    """UTF-8 of a document as `json.loads` gives it: members by their names, no blanks, numbers as ECMAScript has them.

    Raises ValueError for what has no such form: a number that is not finite, a whole one of more than 53 bits, text
    that is no Unicode, another type.
    """
    return _text(value).encode()


def _text(value: Any) -> str:
    write = _WRITERS.get(type(value))
    if write is None:
        raise ValueError(f"{type(value).__name__} has no canonical form in JSON")
    return write(value)


def _object(members: dict[str, Any]) -> str:
    return "{" + ",".join([before + _text(members[name]) for name, before in _ordered(tuple(members))]) + "}"


# Objects of one kind have the same members, and an answer has thousands of a kind.
@lru_cache(maxsize=512)
def _ordered(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Names in their order, with the text that stands before their values.

    By UTF-16 code units: of characters beyond the first plane that is another order than Python's own.
    """
    return tuple((name, f"{encode_basestring(name)}:") for name in sorted(names, key=_utf16))


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-be")


def _array(items: list[Any]) -> str:
    return "[" + ",".join([_text(item) for item in items]) + "]"


def _whole(number: int) -> str:
    if abs(number) > MAX_WHOLE:
        raise ValueError(f"{number} is larger than {MAX_WHOLE}, the largest whole number that all programs read alike")
    return str(number)


def _number(number: float) -> str:
    """ECMAScript and Python write the same digits, the fewest that lead back to the number, and differ around them."""
    text = repr(number)
    if "e" not in text and "n" not in text:
        return text if text[-2:] != ".0" else text[:-2] if number else "0"
    if not isfinite(number):
        raise ValueError(f"{number} is no number in JSON")
    digits, _, exponent = text.partition("e")
    if abs(number) < FIRST_SMALL or abs(number) >= FIRST_LARGE:
        return f"{digits}e{int(exponent):+d}"
    whole, _, rest = digits.partition(".")
    if int(exponent) > 0:
        return whole + rest.ljust(int(exponent), "0")
    sign = "-" if number < 0 else ""
    return f"{sign}0.{'0' * (-int(exponent) - 1)}{whole.removeprefix('-')}{rest}"


_WRITERS: dict[type, Callable[[Any], str]] = {
    dict: _object,
    list: _array,
    str: encode_basestring,
    float: _number,
    int: _whole,
    bool: lambda value: "true" if value else "false",
    type(None): lambda value: "null",
}
