"""Which URLs of a caller live streams are fetched from."""

from __future__ import annotations

from urllib.parse import urlsplit

from service.sources.config import SourceConfig
from service.sources.ranges import check_source
from service.sources.urls import WEB

RTSP = ("rtsps", "rtsp")


def check_stream(url: str, config: SourceConfig) -> None:
    """Raise SourceNotAllowed where no stream may be fetched from `url`."""
    check_source(url, config, schemes_of(url))


def schemes_of(url: str) -> tuple[str, str]:
    """The schemes that are spoken like that of `url`, encrypted and plain."""
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        # What is wrong with it is said where it is checked.
        return WEB
    return RTSP if scheme in RTSP else WEB
