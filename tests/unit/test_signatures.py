"""Signatures of answers, with a reader of JWS that is not ours, and what breaks them."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from service.api.openapi_examples import RESULT_EXAMPLE
from service.contracts import JobResult, JobState, told
from service.queue.codec import Outcome
from service.signatures import Signer, check_signature

SIGNER, OTHER = Signer(Ed25519PrivateKey.generate()), Signer(Ed25519PrivateKey.generate())
KEYS = (SIGNER.public,)


def signed(document: dict[str, Any], signer: Signer = SIGNER) -> dict[str, Any]:
    return {**document, "signature": signer.sign(document)}


ANSWER = signed(JobResult.model_validate(RESULT_EXAMPLE).document)

Place = tuple[str | int, ...]


def places(value: Any, above: Place = ()) -> Iterator[Place]:
    """Where each part of a document stands, but the document itself and its signature."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        if (*above, name) != ("signature",):
            yield (*above, name)
            yield from places(part, (*above, name))


PLACES = list(places(ANSWER))


def at(document: Any, place: Place) -> Any:
    for name in place:
        document = document[name]
    return document


def test_a_reader_of_jws_that_is_not_ours_checks_a_signature_with_the_published_key() -> None:
    answer = copy.deepcopy(ANSWER)
    header, _, value = answer.pop("signature").partition("..")
    payload = base64.urlsafe_b64encode(rfc8785.dumps(answer)).rstrip(b"=").decode()
    [key] = jwt.PyJWKSet.from_dict({"keys": [SIGNER.public.jwk]}).keys
    token = jwt.PyJWS().decode_complete(f"{header}.{payload}.{value}", key, algorithms=["EdDSA"])
    assert json.loads(token["payload"]) == answer
    assert token["header"] == {"alg": "EdDSA", "kid": key.key_id, "typ": "vidtr-answer"}


def test_a_signature_holds_with_the_key_that_made_it_among_others() -> None:
    assert check_signature(ANSWER, (OTHER.public, SIGNER.public)) == (True, SIGNER.public.id, "")


def test_the_order_of_members_blanks_and_the_spelling_of_numbers_do_not_matter() -> None:
    backwards = json.dumps(dict(reversed(ANSWER.items())), indent=3).replace('"retention": 1.0', '"retention": 1')
    assert '"retention": 1,' in backwards or '"retention": 1\n' in backwards
    assert check_signature(json.loads(backwards), KEYS).holds


def test_a_member_that_is_null_counts_as_one_that_is_left_out() -> None:
    document = JobResult.model_validate(ANSWER).model_dump(mode="json")
    assert document["embedding"] is None
    assert check_signature(document, KEYS).holds


@given(st.sampled_from(PLACES), st.data())
def test_any_part_that_is_changed_breaks_the_signature(place: Place, data: st.DataObject) -> None:
    answer = copy.deepcopy(ANSWER)
    within = at(answer, place[:-1])
    before = within[place[-1]]
    match before:
        case bool():
            within[place[-1]] = not before
        case int() | float():
            within[place[-1]] = data.draw(st.floats(-1e6, 1e6).filter(lambda number: number != before))
        case str():
            within[place[-1]] = data.draw(st.text(max_size=9).filter(lambda text: text != before))
        case list():
            before.append(data.draw(st.sampled_from(["more", 1.5, {}])))
        case dict():
            before["added"] = True
    assert check_signature(answer, KEYS) == (False, SIGNER.public.id, _changed(SIGNER))


@given(st.sampled_from(PLACES))
def test_any_part_that_is_left_out_breaks_the_signature(place: Place) -> None:
    answer = copy.deepcopy(ANSWER)
    del at(answer, place[:-1])[place[-1]]
    assert check_signature(answer, KEYS) == (False, SIGNER.public.id, _changed(SIGNER))


def test_two_windows_that_change_places_break_the_signature() -> None:
    answer = signed({"windows": [{"start_s": 0.0}, {"start_s": 1.0}]})
    assert check_signature(answer, KEYS).holds
    answer["windows"].reverse()
    assert not check_signature(answer, KEYS).holds


def _changed(signer: Signer) -> str:
    return f"the answer is not as the key {signer.public.id} has signed it"


def test_no_character_of_a_signature_can_be_another_one() -> None:
    text = ANSWER["signature"]
    for place, there in enumerate(text):
        for other in set("Ag_" if there != "." else "A-") - {there}:
            answer = {**ANSWER, "signature": text[:place] + other + text[place + 1 :]}
            assert not check_signature(answer, KEYS).holds, (place, other)


def test_an_answer_without_a_signature_is_not_signed() -> None:
    answer = {name: value for name, value in ANSWER.items() if name != "signature"}
    for unsigned in (answer, {**answer, "signature": None}):
        assert check_signature(unsigned, KEYS) == (False, None, "the answer has none")


def test_a_signature_of_another_key_is_of_an_unknown_key() -> None:
    found = check_signature(signed(RESULT_EXAMPLE, OTHER), KEYS)
    ids = OTHER.public.id, SIGNER.public.id
    assert found == (False, ids[0], f"it is of the key {ids[0]}, and the known ones are {ids[1]}")


def test_a_signature_of_another_key_under_the_name_of_a_known_one_does_not_hold() -> None:
    header = ANSWER["signature"].partition("..")[0]
    forged = OTHER.sign(RESULT_EXAMPLE).partition("..")[2]
    assert not check_signature({**ANSWER, "signature": f"{header}..{forged}"}, KEYS).holds


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


HEADER = {"alg": "EdDSA", "kid": SIGNER.public.id, "typ": "vidtr-answer"}


@pytest.mark.parametrize(
    "header",
    [
        {**HEADER, "alg": "none"},
        {**HEADER, "alg": "HS256"},
        {**HEADER, "typ": "JWT"},
        {**HEADER, "crit": ["b64"], "b64": False},
        {**HEADER, "kid": 7},
        {"alg": "EdDSA", "typ": "vidtr-answer"},
        [],
    ],
    ids=["no algorithm", "a secret", "another type", "an extension", "a number for the key", "no key", "no object"],
)
def test_a_header_that_is_not_one_of_an_answer_is_refused_before_any_key_is_used(header: Any) -> None:
    text = encoded(json.dumps(header).encode())
    found = check_signature({**ANSWER, "signature": f"{text}..{'A' * 86}"}, KEYS)
    assert (found.holds, found.key) == (False, None)
    assert "its header has not" in found.detail


@pytest.mark.parametrize("text", ["", "..", "a.b.c", 7, [], "a..b", "é..é", "AA..AB", f"{encoded(b'no json')}..AA"])
def test_what_is_no_detached_jws_is_told(text: Any) -> None:
    found = check_signature({**ANSWER, "signature": text}, KEYS)
    assert (found.holds, found.key) == (False, None)
    assert found.detail.startswith("it is none of an answer: ")


@pytest.mark.parametrize("value", [2**60, "\ud800", float("nan")], ids=repr)
def test_a_value_that_no_answer_is_signed_with_is_told(value: Any) -> None:
    found = check_signature({**ANSWER, "coverage": value}, KEYS)
    assert (found.holds, found.key) == (False, SIGNER.public.id)
    assert "a value that none is signed with" in found.detail


def test_the_queue_gives_a_signed_answer_back_as_it_was_signed() -> None:
    outcome = Outcome(JobState.SUCCEEDED, result=JobResult.model_validate(ANSWER))
    result = Outcome.decode(outcome.encode()).result
    assert result is not None
    assert result.document == ANSWER == json.loads(told(result, result))


def test_an_answer_that_an_earlier_release_has_signed_gets_no_members_of_this_one() -> None:
    earlier = copy.deepcopy(RESULT_EXAMPLE)
    del earlier["provenance"]["options"]["embedding"], earlier["warnings"]
    kept = json.dumps({"v": 1, "state": "succeeded", "result": signed(earlier)}).encode()
    result = Outcome.decode(kept).result
    assert result is not None
    assert check_signature(result.document, KEYS).holds
    unsigned = Outcome.decode(json.dumps({"v": 1, "state": "succeeded", "result": earlier}).encode()).result
    assert unsigned is not None
    assert unsigned.document["warnings"] == [] == json.loads(told(unsigned, unsigned))["warnings"]
