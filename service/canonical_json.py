"""JSON in its one canonical form, by RFC 8785: the same values are the same bytes, whoever has written them."""

from __future__ import annotations

from collections.abc import Callable
from json.encoder import encode_basestring
from math import isfinite
from typing import Any

# Beyond it two whole numbers are one in programs that read numbers as FP64.
MAX_WHOLE = 2**53 - 1
# From there on, and below, ECMAScript writes numbers with an exponent.
FIRST_WITH_EXPONENT, FIRST_SMALL = 1e21, 1e-6


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
    # By UTF-16 code units: of characters beyond the first plane that is another order than Python's own.
    names = sorted(members) if all(map(str.isascii, members)) else sorted(members, key=_utf16)
    return "{" + ",".join([f"{encode_basestring(name)}:{_text(members[name])}" for name in names]) + "}"


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-be")


def _array(items: list[Any]) -> str:
    return "[" + ",".join([_text(item) for item in items]) + "]"


def _whole(number: int) -> str:
    if abs(number) > MAX_WHOLE:
        raise ValueError(f"{number} is larger than {MAX_WHOLE}, the largest whole number that all programs read alike")
    return str(number)


def _number(number: float) -> str:
    """Both languages write the shortest digits that lead back to the number, and place the point differently."""
    if not isfinite(number):
        raise ValueError(f"{number} is no number in JSON")
    if number.is_integer() and abs(number) < FIRST_WITH_EXPONENT:
        return str(int(number)) if abs(number) < MAX_WHOLE else _padded(number)
    text = repr(number)
    if "e" not in text:
        return text
    digits, _, exponent = text.partition("e")
    if abs(number) < FIRST_SMALL or abs(number) >= FIRST_WITH_EXPONENT:
        return f"{digits}e{int(exponent):+d}"
    sign, digits = ("-", digits[1:]) if digits[0] == "-" else ("", digits)
    return f"{sign}0.{'0' * (-int(exponent) - 1)}{digits.replace('.', '')}"


def _padded(number: float) -> str:
    """A large whole number: the digits that tell it apart from its neighbors, then zeros."""
    digits, _, exponent = repr(number).removesuffix(".0").partition("e")
    whole, _, rest = digits.partition(".")
    return whole + rest.ljust(int(exponent or 0), "0")


_WRITERS: dict[type, Callable[[Any], str]] = {
    dict: _object,
    list: _array,
    str: encode_basestring,
    float: _number,
    int: _whole,
    bool: lambda value: "true" if value else "false",
    type(None): lambda value: "null",
}
