"""The public keys of signed answers: for everybody whom an answer is shown to, so never behind authentication."""

from __future__ import annotations

from fastapi import APIRouter, Response

from service.api.app_state import State
from service.api.openapi_examples import SIGNING_KEYS, json_content
from service.api.schemas import SigningKey, SigningKeySet

router = APIRouter(tags=["signatures"])

# A key that is taken off the list is trusted no longer than that.
CACHE_CONTROL = "public, max-age=300"


@router.get(
    "/.well-known/jwks.json",
    operation_id="list_signing_keys",
    summary="The keys with which answers are signed",
    responses={200: json_content(SIGNING_KEYS)},
)
async def list_signing_keys(state: State, response: Response) -> SigningKeySet:
    """Public keys as a JSON Web Key Set: those of answers that are signed now, and of earlier ones."""
    response.headers["Cache-Control"] = CACHE_CONTROL
    return SigningKeySet(keys=tuple(SigningKey.model_validate(key.jwk) for key in state.listed_keys.keys))
