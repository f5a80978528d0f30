"""Which objects in buckets of S3 and Google Cloud Storage may be read, with the credentials of this service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.errors import SourceNotAllowed
from service.sources.config import BucketConfig

if TYPE_CHECKING:
    from service.sources.object_client import ObjectClient, Store

SCHEMES = ("s3://", "gs://")


class Buckets:
    """The buckets that the operator has listed."""

    def __init__(self, config: BucketConfig) -> None:
        """Raises what the operator has to mend before a caller meets it.

        ImportError without the package that reads buckets, OSError, ValueError or its BaseError for a file of
        credentials that it cannot use.
        """
        self._stores: dict[str, Store] = {}
        if config.source_buckets:
            from service.sources.object_client import open_bucket

            self._stores = {bucket: open_bucket(bucket, config) for bucket in config.source_buckets}

    @property
    def on(self) -> bool:
        """Whether there are any."""
        return bool(self._stores)

    def client(self, url: str) -> ObjectClient:
        """What reads the object at `url`. Raises SourceNotAllowed."""
        bucket, key = place_of(url)
        if bucket not in self._stores:
            raise SourceNotAllowed(
                f"Nothing is fetched from {bucket}. Use a bucket that the operator has listed in `source_buckets`.",
                actual=bucket,
            )
        if key is None:
            raise SourceNotAllowed(
                "The URL of the source cannot be used: a key is printable, and no part of it between slashes is empty,"
                " `.` or `..`.",
                actual=url,
            )
        from service.sources.object_client import ObjectClient

        return ObjectClient(self._stores[bucket], key)


def place_of(url: str) -> tuple[str, str | None]:
    """The bucket of an object's URL, such as `s3://films`, and its key; None for a key that cannot be used."""
    scheme, _, rest = url.partition("://")
    name, _, key = rest.partition("/")
    # A store would take such a key for that of another object, or for a folder.
    usable = key.isprintable() and all(part not in ("", ".", "..") for part in key.split("/"))
    return f"{scheme}://{name}", key if usable else None
