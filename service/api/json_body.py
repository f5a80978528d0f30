"""Options that come as JSON: read within a limit, and refused as options of a query are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from service.errors import InvalidOption, MalformedRequest, sentence

MAX_BYTES = 16 * 1024

Model = TypeVar("Model", bound=BaseModel)


async def read_bounded(chunks: AsyncIterator[bytes]) -> bytes:
    """All of `chunks`. Raises MalformedRequest where they are too many or break off, and what they raise."""
    body = bytearray()
    try:
        async for chunk in chunks:
            body += chunk
            if len(body) > MAX_BYTES:
                detail = f"The JSON has more than {MAX_BYTES} bytes."
                raise MalformedRequest(detail, limit=MAX_BYTES, actual=len(body))
    except ClientDisconnect as error:
        detail = "The client closed the connection before the request was complete."
        raise MalformedRequest(detail, actual=len(body)) from error
    return bytes(body)


async def read_options(chunks: AsyncIterator[bytes], model: type[Model]) -> Model:
    """The options in a body. Raises what `read_bounded` raises, MalformedRequest and InvalidOption."""
    try:
        return model.model_validate_json(await read_bounded(chunks), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            raise MalformedRequest(f"The body is no JSON: {sentence(first['msg'])}") from error
        where = ".".join(map(str, first["loc"])) or "request"
        raise InvalidOption(f"Option {where!r} is not valid: {sentence(first['msg'])}") from error
