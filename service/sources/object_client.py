"""Ranges of one object in a bucket, by obstore: an extra, so `service.sources.buckets` imports this when needed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
from obstore import get_async
from obstore.exceptions import BaseError, PermissionDeniedError, PreconditionError, UnauthenticatedError
from obstore.store import GCSStore, S3Store

from service.errors import EmptyUpload, SourceRefused
from service.sources.bucket_credentials import s3_credentials
from service.sources.config import BucketConfig
from service.sources.ranges import LATER, Broken, Part, Validator, changed

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult
    from obstore.store import ClientConfig, GCSConfig, RetryConfig, S3Config

Store = S3Store | GCSStore

log = structlog.get_logger()

# What a connection that breaks may cost again.
PIECE_BYTES = 1 << 16
_STATUS = re.compile(r"status code: (\d{3})")
_ELSEWHERE = "redirect without LOCATION"
# Who reads the object tries again, within its limits.
_ONCE: RetryConfig = {"max_retries": 0}


def open_bucket(bucket: str, config: BucketConfig) -> Store:
    """A bucket of S3 (`s3://name`) or Google Cloud Storage (`gs://name`). Nothing is asked yet.

    Raises OSError, ValueError or BaseError for a file of credentials that cannot be used.
    """
    scheme, _, name = bucket.partition("://")
    if scheme == "gs":
        google: GCSConfig = {}
        if config.source_gs_endpoint is not None:
            google["base_url"] = config.source_gs_endpoint
        if config.source_gs_credentials_file is not None:
            google["service_account"] = str(config.source_gs_credentials_file)
        client = _client(config.source_gs_endpoint, config)
        return GCSStore(name, config=google, client_options=client, retry_config=_ONCE)
    # The name of a bucket is never part of a host's.
    amazon: S3Config = {"region": config.source_s3_region, "virtual_hosted_style_request": False}
    if config.source_s3_endpoint is not None:
        amazon["endpoint"] = config.source_s3_endpoint
    file = config.source_s3_credentials_file
    credentials = None if file is None else s3_credentials(file)
    if credentials is not None:
        credentials()
    return S3Store(
        name,
        config=amazon,
        client_options=_client(config.source_s3_endpoint, config),
        retry_config=_ONCE,
        credential_provider=credentials,
    )


def _client(endpoint: str | None, config: BucketConfig) -> ClientConfig:
    return {
        "allow_http": endpoint is not None and endpoint.startswith("http://"),
        "timeout": timedelta(seconds=config.source_timeout_s),
        "user_agent": "vidtr-sources",
    }


class ObjectClient:
    """Asks for ranges of one object."""

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._key = key
        self.requests = 0

    async def close(self) -> None:
        """Nothing: connections to the store are kept for the next object."""

    @asynccontextmanager
    async def get(self, start: int, end: int, known: Validator | None) -> AsyncIterator[Part]:
        """The bytes from `start` to before `end`.

        Args:
            start: first byte that is wanted.
            end: the byte after the last one.
            known: what the object was like before; None for the first request.

        Raises:
            Broken: not now.
            SourceRefused, SourceChanged, EmptyUpload: never.
        """
        options: GetOptions = {"range": (start, end)}
        if known is not None and known.text.startswith('"'):
            options["if_match"] = known.text
        self.requests += 1
        try:
            result = await get_async(self._store, self._key, options=options)
        except (BaseError, OSError) as error:
            raise _refusal(error, known) from error
        validator = Validator(result.meta["e_tag"] or result.meta["last_modified"].isoformat())
        # Not every server heeds `If-Match`.
        if known is not None and validator != known:
            raise changed()
        yield Part(result.range[0], result.meta["size"], True, validator, _body(result))


async def _body(result: GetResult) -> AsyncIterator[bytes]:
    try:
        async for chunk in result.stream(PIECE_BYTES):
            yield bytes(chunk)
    except (BaseError, OSError) as error:
        raise Broken("the connection to the store broke off") from error


def _refusal(error: Exception, known: Validator | None) -> Exception:
    if isinstance(error, PreconditionError):
        return changed()
    if isinstance(error, FileNotFoundError):
        return SourceRefused("The bucket has no such object, or does not exist.", actual=int(HTTPStatus.NOT_FOUND))
    said = _STATUS.search(str(error))
    status = int(said[1]) if said else None
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return SourceRefused("The credentials of this service may not read the object.", actual=status)
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return EmptyUpload("The source is empty: it has 0 bytes.") if known is None else changed()
    # What the error says of the operator's endpoint is nothing that callers need to know.
    log.warning("bucket_failed", error=str(error).partition("\n")[0])
    if _ELSEWHERE in str(error):
        return SourceRefused("The bucket is in another region than `source_s3_region`.")
    if status is None:
        return Broken("the store cannot be reached")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in LATER:
        return Broken(f"the store answered {status}")
    return SourceRefused(f"The source cannot be fetched: its store answered {status}.", actual=status)
