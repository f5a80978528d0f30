"""A body in JSON that names what is to be classified, instead of being it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from pydantic import ValidationError

from service.api.json_body import read_bounded
from service.api.schemas import VideoReference
from service.errors import MalformedRequest, sentence

REFERENCE_TYPE = b"application/json"


async def read_reference(chunks: AsyncIterator[bytes]) -> VideoReference:
    """What the body names. Raises MalformedRequest, and what `chunks` raises."""
    body = await read_bounded(chunks)
    try:
        return VideoReference.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        detail = f"The JSON does not name a video{f', at {where}' if where else ''}: {sentence(first['msg'])}"
        raise MalformedRequest(detail) from error
