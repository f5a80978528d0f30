"""Videos by URL for a command that asks no service: fetched by this process, as far as they are read."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from service.api.auth import Principal
from service.api.shares import Shares
from service.api.spool import Spool, SpoolConfig
from service.api.url_sources import Sources
from service.errors import SourceNotAllowed
from service.queue.quota import QuotaLimits
from service.settings import Settings
from service.sources.buckets import SCHEMES, Buckets, place_of
from service.sources.config import ANY, BucketConfig, SourceConfig

# The person who calls the command names the URL and may ask for it from here.
_CALLER = Principal("", "", "", QuotaLimits(None, None))
_AT_ONCE = 64


class Fetched:
    """Opens videos by URL, with the credentials and limits of the settings. Any host and any bucket may be named."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        """What is read lies in `folder` until its video is decoded."""
        self._config = replace(settings.subset(SourceConfig), source_hosts=(ANY,), source_private_targets=True)
        self._buckets = settings.subset(BucketConfig)
        self._spool = SpoolConfig(folder, settings.max_upload_bytes, 0, hash_uploads=False)
        self._opened: dict[str, Sources] = {}

    @contextlib.asynccontextmanager
    async def open(self, url: str) -> AsyncIterator[Spool]:
        """The video at `url`. Raises what `Sources.open` raises, SourceNotAllowed where buckets cannot be read."""
        async with Spool(self._spool, hashed=False) as spool:
            await self._sources(url).open(url, _CALLER, spool)
            if spool.source is None or spool.source.size is None:
                # The server knows no ranges, so that all of it has come.
                await spool.finish()
            yield spool

    def _sources(self, url: str) -> Sources:
        bucket = place_of(url)[0] if url.startswith(SCHEMES) else ""
        if bucket not in self._opened:
            listed = (bucket,) if bucket else ()
            self._opened[bucket] = Sources(
                self._config,
                open_buckets(replace(self._buckets, source_buckets=listed)),
                Shares(1.0).of("sources", _AT_ONCE),
            )
        return self._opened[bucket]


def open_buckets(config: BucketConfig) -> Buckets:
    """The buckets of the config. Raises SourceNotAllowed where this installation cannot read buckets."""
    try:
        return Buckets(config)
    except ImportError as error:
        detail = "This installation reads no buckets. Install it with the extra `buckets`."
        raise SourceNotAllowed(detail) from error
    except (OSError, ValueError) as error:
        raise SourceNotAllowed(f"The credentials for the bucket cannot be used: {error}.") from error
