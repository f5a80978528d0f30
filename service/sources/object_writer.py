"""Writing objects by obstore: an extra, so `service.sources.destinations` imports this when needed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import structlog
from obstore import head_async, put_async
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from service.sources.object_client import Store

log = structlog.get_logger()

# Of a large object; S3 takes no smaller ones. What is smaller goes at once.
PART_BYTES = 5 * 1024 * 1024
AT_ONCE = 2
"""parts of an object on their way"""


async def size_of(store: Store, key: str) -> int | None:
    """Bytes of an object; None where there is none. Raises OSError with a sentence where the bucket does not say."""
    try:
        return (await head_async(store, key))["size"]
    except FileNotFoundError:
        return None
    except (BaseError, OSError) as error:
        raise _sentence(error) from error


async def write(store: Store, key: str, content: AsyncIterator[bytes]) -> None:
    """Make an object of `content`, which is never in memory as a whole. Raises OSError with a sentence."""
    first = bytearray()
    async for piece in content:
        first += piece
        if len(first) >= PART_BYTES:
            break
    try:
        if len(first) < PART_BYTES:
            await put_async(store, key, bytes(first), use_multipart=False)
        else:
            parts = _joined(bytes(first), content)
            await put_async(store, key, parts, use_multipart=True, chunk_size=PART_BYTES, max_concurrency=AT_ONCE)
    except (BaseError, OSError) as error:
        raise _sentence(error) from error


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


def _sentence(error: Exception) -> OSError:
    # What the error says of the operator's endpoint is nothing that callers need to know.
    log.warning("bucket_failed", error=str(error).partition("\n")[0])
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return OSError("The credentials of this service may not write there.")
    if isinstance(error, FileNotFoundError):
        return OSError("The bucket does not exist.")
    return OSError("The bucket did not take it.")
