"""The objects below a prefix of a bucket; imports obstore, an extra."""

from __future__ import annotations

from collections.abc import Iterator

import obstore
from obstore.exceptions import BaseError

from service.errors import SourceRefused, sentence
from service.sources.config import BucketConfig
from service.sources.object_client import open_bucket


def objects_below(url: str, config: BucketConfig) -> Iterator[str]:
    """URLs of the objects below `url`, a bucket or a prefix of its keys that ends with a slash, page by page.

    Raises SourceRefused where the bucket cannot be listed; OSError, ValueError for credentials that cannot be used.
    """
    scheme, _, rest = url.partition("://")
    name, _, prefix = rest.partition("/")
    bucket = f"{scheme}://{name}"
    try:
        for page in obstore.list(open_bucket(bucket, config), prefix or None):
            yield from (f"{bucket}/{found['path']}" for found in page)
    except BaseError as error:
        said = str(error).partition("\n")[0]
        raise SourceRefused(f"{url} cannot be listed: {sentence(said)}") from error
