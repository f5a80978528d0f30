"""RFC 8785, against a reader of it that is not ours and against the numbers of the RFC itself."""

import json
import struct
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from service.canonical_json import MAX_WHOLE, canonical_json

TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-MAX_WHOLE, MAX_WHOLE)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(TEXTS, parts, max_size=4),
    max_leaves=12,
)


@given(DOCUMENTS)
def test_a_document_has_the_form_that_another_implementation_gives_it(document: Any) -> None:
    assert canonical_json(document) == rfc8785.dumps(document)


@given(NUMBERS.map(float))
def test_a_number_has_the_form_that_another_implementation_gives_it(number: float) -> None:
    assert canonical_json(number) == rfc8785.dumps(number)


@given(DOCUMENTS)
def test_a_document_that_was_read_and_written_again_has_the_same_form(document: Any) -> None:
    assert canonical_json(json.loads(json.dumps(document, indent=2))) == canonical_json(document)


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("c340000000000000", "-9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555555", "333333333.3333333"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
        ("43143ff3c1cb0959", "1424953923781206.2"),
    ],
)
def test_a_number_of_the_standard_is_written_as_the_standard_says(bits: str, text: str) -> None:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical_json(number).decode() == text


def test_members_are_ordered_by_utf16_code_units() -> None:
    assert canonical_json({"\ufb33": 1, "\U0001f600": 2, "a": 3}).decode() == '{"a":3,"\U0001f600":2,"\ufb33":1}'


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), MAX_WHOLE + 1, "\ud800", {"a": ["\udfff"]}, (1, 2), {1}, b"a"], ids=repr
)
def test_what_not_all_programs_read_alike_has_no_form(value: Any) -> None:
    with pytest.raises(ValueError, match=r"canonical form|no number|largest whole number|surrogates"):
        canonical_json(value)
