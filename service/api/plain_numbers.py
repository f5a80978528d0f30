"""Numbers as they stand in queries and headers. Python reads more than that: `1_0`, digits of other scripts."""

from __future__ import annotations

import re

from pydantic_core import PydanticCustomError

_PLAIN = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
# What a float may be besides; whether it may be that here is for the option to say.
_NOT_FINITE = re.compile(r"[+-]?(inf|infinity|nan)", re.I)


def is_plain_number(text: str) -> bool:
    """Whether it is a number in ASCII digits, or one that is not finite."""
    return bool(_PLAIN.fullmatch(text) or _NOT_FINITE.fullmatch(text))


def plain_number(value: object) -> object:
    """A validator to run before Pydantic's own. Raises PydanticCustomError for text that is no plain number."""
    if isinstance(value, str) and not is_plain_number(value):
        raise PydanticCustomError("plain_number", "Input should be a number in digits, such as 5")
    return value
