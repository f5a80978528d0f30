"""The options of a query, and what holds for all of them.

Callers send the same few queries again and again, and reading one takes longer than any other step that the API does by
itself: what a short one says is remembered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import QueryParams

from service.api.schemas import ClassifyOptions
from service.errors import InvalidOption

REMEMBERED = 256
LONGEST_REMEMBERED_BYTES = 512

Read = TypeVar("Read")


def _remembering(read: Callable[[bytes], Read]) -> Callable[[Request], Read]:
    """What `read` says of the query of a request. One with a webhook, whose URL may hold a secret, is not kept."""
    remembered = lru_cache(maxsize=REMEMBERED)(read)

    def of(request: Request) -> Read:
        query: bytes = request.scope["query_string"]
        kept = len(query) <= LONGEST_REMEMBERED_BYTES and b"webhook" not in query
        return remembered(query) if kept else read(query)

    return of


@_remembering
def _checked(query: bytes) -> None:
    counted = Counter(name for name, _ in QueryParams(query).multi_items())
    for name, count in counted.items():
        if count > 1:
            raise InvalidOption(f"Option {name!r} is given {count} times. Give it once.", limit=1, actual=count)


@_remembering
def classify_options(query: bytes) -> ClassifyOptions:
    """The options of a classification, each given once. Raises RequestValidationError, as FastAPI does."""
    try:
        return ClassifyOptions.model_validate(dict(QueryParams(query)))
    except ValidationError as error:
        found: list[Any] = error.errors(include_url=False)
        raise RequestValidationError([{**one, "loc": ("query", *one["loc"])} for one in found]) from error


async def each_once(request: Request) -> None:
    """Refuse an option that is given twice: which of its values counts would be a guess. Raises InvalidOption."""
    _checked(request)
