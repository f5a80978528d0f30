"""Objects in buckets that this service may write, with its own credentials."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

from service.errors import InvalidOption, sentence
from service.sources.buckets import place_of
from service.sources.config import BucketConfig

if TYPE_CHECKING:
    from service.sources.object_client import Store


class Destinations:
    """The buckets that the operator has listed for writing."""

    def __init__(self, buckets: tuple[str, ...], config: BucketConfig) -> None:
        """`config` says where they are and as whom they are asked. Raises what `Buckets` raises."""
        self._stores: dict[str, Store] = {}
        if buckets:
            from service.sources.object_client import open_bucket

            writing = replace(config, source_buckets=buckets)
            self._stores = {bucket: open_bucket(bucket, writing) for bucket in buckets}

    def check(self, url: str) -> None:
        """Raise InvalidOption where nothing may be written to `url`."""
        self._place(url)

    async def check_free(self, url: str) -> None:
        """Raise InvalidOption where an object is at `url` already, or its bucket does not say."""
        from service.sources.object_writer import size_of

        try:
            size = await size_of(*self._place(url))
        except OSError as error:
            raise InvalidOption(f"Option 'destination' is not valid: {sentence(str(error))}", actual=url) from error
        if size is not None:
            raise InvalidOption(
                f"Option 'destination' is not valid: there is an object of {size} bytes already. Name another one.",
                actual=url,
            )

    async def write(self, url: str, content: AsyncIterator[bytes]) -> None:
        """Make an object of `content`, at once when all of it is there. Raises OSError with a sentence for a person."""
        from service.sources.object_writer import write

        await write(*self._place(url), content)

    def _place(self, url: str) -> tuple[Store, str]:
        bucket, key = place_of(url)
        if bucket not in self._stores:
            raise InvalidOption(
                f"Option 'destination' is not valid: nothing is written to {bucket}. Use a bucket that the operator has"
                " listed in `batch_destinations`.",
                actual=url,
            )
        if key is None:
            raise InvalidOption(
                "Option 'destination' is not valid: a key is printable, and no part of it between slashes is empty, `.`"
                " or `..`.",
                actual=url,
            )
        return self._stores[bucket], key
