"""Which URLs of a caller live streams are fetched from."""

from __future__ import annotations

from urllib.parse import urlsplit

from service.contracts.stream_requests import StreamSource
from service.errors import SourceNotAllowed
from service.sources.config import SourceConfig
from service.sources.ranges import check_source
from service.sources.rtsp_client import RTSP
from service.sources.srt_client import SRT, check_srt
from service.sources.stream_logins import StreamLogins
from service.sources.urls import WEB


def check_stream(source: StreamSource, config: SourceConfig, logins: StreamLogins) -> None:
    """Raise SourceNotAllowed where nothing may be fetched from there, or as whom the caller says.

    Raises SourceRefused for what is not spoken here, and SourceUnavailable where logins cannot be read.
    """
    scheme = source.scheme
    if scheme in SRT:
        check_srt(source.url, config, encrypted=source.credentials is not None)
    else:
        check_source(source.url, config, RTSP if scheme in RTSP else WEB)
    if source.credentials is not None:
        if scheme not in (*RTSP, *SRT):
            raise SourceNotAllowed(
                "Credentials are for sources of RTSP and SRT. Leave `source.credentials` out.", actual=scheme
            )
        logins.find(source.credentials, urlsplit(source.url).hostname or "")
