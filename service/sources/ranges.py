"""Ranges of one file on a web server: each answer is checked to be of the same file, and of what was asked for."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urljoin, urlsplit

import httpcore

from service.errors import EmptyUpload, SourceChanged, SourceNotAllowed, SourceRefused, SourceUnavailable, sentence
from service.sources.config import SourceConfig
from service.sources.urls import WEB, fault_of

REDIRECTS = (301, 302, 303, 307, 308)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
LATER = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
"""statuses below 500 of a server that may answer otherwise when it is asked again"""


class Broken(Exception):
    """A connection that failed, or a server that does for now: the same request may succeed."""


@dataclass(frozen=True)
class Validator:
    """What tells one version of a file from another: a strong ETag, or else its date; empty where neither is given."""

    text: str

    @classmethod
    def of(cls, headers: dict[str, str]) -> Validator:
        """That of an answer."""
        etag = headers.get("etag", "")
        return cls(etag if etag.startswith('"') else headers.get("last-modified", ""))


@dataclass(frozen=True)
class Part:
    """The beginning of an answer: which bytes it has, of how many. `total` is None where the server does not say."""

    start: int
    total: int | None
    ranged: bool
    validator: Validator
    body: AsyncIterator[bytes]


def check_source(url: str, config: SourceConfig, schemes: tuple[str, str] = WEB) -> None:
    """Raise SourceNotAllowed where nothing may be fetched from `url`, whose scheme is one of `schemes`."""
    if not config.source_hosts:
        raise SourceNotAllowed(
            "No videos are fetched here: the setting `source_hosts` lists no host. Upload the video."
        )
    if (why := fault_of(url, private=config.source_private_targets, schemes=schemes)) is not None:
        raise SourceNotAllowed(f"The URL of the source cannot be used: {sentence(why)}", actual=url)
    host = urlsplit(url).hostname or ""
    if not config.allows(host):
        raise SourceNotAllowed(
            f"Nothing is fetched from {host}. Use a host that the operator has listed in `source_hosts`.", actual=host
        )


class RangeClient:
    """Asks for ranges of one URL. Redirects are followed as far as each hop may be asked itself."""

    def __init__(self, url: str, config: SourceConfig, backend: httpcore.AsyncNetworkBackend) -> None:
        """Raises SourceNotAllowed."""
        check_source(url, config)
        self._url = url
        self._at = url
        """where the last redirect led"""
        self._config = config
        # A pool of its own: a connection that is kept for others would outlive the check of its address.
        self._pool = httpcore.AsyncConnectionPool(network_backend=backend, max_connections=1)
        self.requests = 0

    async def close(self) -> None:
        """Hang up."""
        await self._pool.aclose()

    @asynccontextmanager
    async def get(self, start: int, end: int, known: Validator | None) -> AsyncIterator[Part]:
        """The bytes from `start` to before `end`, or the whole file where the server knows no ranges.

        Args:
            start: first byte that is wanted.
            end: the byte after the last one.
            known: what the file was like before; None for the first request.

        Raises:
            Broken: not now.
            SourceRefused, SourceChanged, SourceNotAllowed: never.
        """
        headers = {
            "Range": f"bytes={start}-{end - 1}",
            "Accept-Encoding": "identity",
            "User-Agent": "vidtr-sources",
            **({"If-Range": known.text} if known is not None and known.text else {}),
        }
        for _ in range(self._config.source_max_redirects + 1):
            self.requests += 1
            timeouts = dict.fromkeys(("connect", "read", "write", "pool"), self._config.source_timeout_s)
            async with self._pool.stream(
                "GET", self._at, headers=list(headers.items()), extensions={"timeout": timeouts}
            ) as response:
                said = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
                if response.status in REDIRECTS and "location" in said:
                    self._at = urljoin(self._at, said["location"])
                    check_source(self._at, self._config)
                    continue
                yield self._part(response.status, said, start, end, known, response.aiter_stream())
                return
        limit = self._config.source_max_redirects
        raise SourceRefused(f"The source redirects more than {limit} times.", limit=limit)

    def _part(
        self,
        status: int,
        headers: dict[str, str],
        start: int,
        end: int,
        known: Validator | None,
        body: AsyncIterator[bytes],
    ) -> Part:
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in LATER:
            raise Broken(f"the server answered {status}")
        coding = headers.get("content-encoding", "identity")
        if coding != "identity":
            raise SourceRefused(f"The source is sent in the coding {coding!r}; it is needed as it is.", actual=coding)
        validator = Validator.of(headers)
        if status == HTTPStatus.PARTIAL_CONTENT:
            said = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
            if said is None or int(said[1]) != start or int(said[2]) >= end:
                given = headers.get("content-range", "")
                raise SourceRefused(
                    f"Bytes {start} to {end - 1} were asked for; the source gave {given!r}.", actual=given
                )
            if known is not None and known.text and validator.text and validator != known:
                raise changed()
            return Part(start, int(said[3]), True, validator, body)
        if status == HTTPStatus.OK:
            if known is not None:
                # Of a file that is the same, a server that knew ranges a moment ago sends the range.
                raise changed()
            length = headers.get("content-length", "")
            return Part(0, int(length) if length.isdecimal() and length.isascii() else None, False, validator, body)
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise EmptyUpload("The source is empty: it has 0 bytes.") if known is None else changed()
        raise SourceRefused(f"The source cannot be fetched: its server answered {status}.", actual=status)


def changed() -> SourceChanged:
    """The error for a file that is another one than it was."""
    return SourceChanged("The source changed while it was read. Send the request again.")


def unavailable(tries: int, why: str) -> SourceUnavailable:
    """The error for a server that did not give what was asked for."""
    return SourceUnavailable(f"The source could not be read in {tries} tries: {sentence(why)}", actual=tries)
