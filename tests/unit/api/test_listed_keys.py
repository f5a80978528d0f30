"""What the API says where its workers sign with a key that it does not list."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.testing import capture_logs

from service.api.listed_keys import ListedKeys
from service.api.openapi_examples import RESULT_EXAMPLE
from service.signatures import Signer

LISTED, EARLIER, OTHER = (Signer(Ed25519PrivateKey.generate()) for _ in range(3))


def warned_of(signature: str | None, *listed: Signer) -> list[Any]:
    """The keys in the warnings about an answer with this signature."""
    with capture_logs() as logs:
        ListedKeys(signer.public for signer in listed).compare(signature)
    assert [entry["event"] for entry in logs] == ["signing_key_not_listed"] * len(logs)
    return [entry["key"] for entry in logs]


def test_an_answer_of_a_listed_key_and_one_without_a_signature_are_no_news() -> None:
    for signer in (LISTED, EARLIER):
        assert warned_of(signer.sign(RESULT_EXAMPLE), LISTED, EARLIER) == []
    assert warned_of(None, LISTED) == warned_of(None) == []


def test_an_answer_of_a_key_that_is_not_listed_is_warned_of_by_its_id() -> None:
    for listed in ((LISTED, EARLIER), ()):
        assert warned_of(OTHER.sign(RESULT_EXAMPLE), *listed) == [OTHER.public.id]
    assert warned_of("no signature", LISTED) == [None]
