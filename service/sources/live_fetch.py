"""One answer of a web server, read as it comes: of a stream that does not end, of a playlist, of a segment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urljoin

import httpcore

from service.errors import SourceLimit, SourceRefused
from service.sources.config import SourceConfig
from service.sources.ranges import LATER, REDIRECTS, Broken, check_source

_USER_AGENT = "vidtr-sources"


@dataclass(frozen=True)
class Answer:
    """Where the redirects led, and what comes from there. `complete` says whether the end of `body` will be its own."""

    url: str
    complete: bool
    body: AsyncIterator[bytes]


class LiveClient:
    """Asks web servers. Every URL is checked, with those that redirects lead to, and connects only where it may."""

    def __init__(self, config: SourceConfig, backend: httpcore.AsyncNetworkBackend, idle_s: float) -> None:
        """What says nothing for `idle_s` is broken."""
        self._config = config
        self._backend = backend
        self._idle_s = idle_s

    @asynccontextmanager
    async def get(self, url: str) -> AsyncIterator[Answer]:
        """The answer for `url`.

        Raises:
            Broken, httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError: not now.
            SourceNotAllowed, SourceRefused, ForbiddenTarget: never.
        """
        check_source(url, self._config)
        # A pool of its own: a connection that is kept for others would outlive the check of its address.
        async with httpcore.AsyncConnectionPool(network_backend=self._backend, max_connections=1) as pool:
            for _ in range(self._config.source_max_redirects + 1):
                async with pool.stream(
                    "GET",
                    url,
                    headers=[("Accept-Encoding", "identity"), ("User-Agent", _USER_AGENT)],
                    extensions={"timeout": dict.fromkeys(("connect", "read", "write", "pool"), self._idle_s)},
                ) as response:
                    said = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
                    if response.status in REDIRECTS and "location" in said:
                        url = urljoin(url, said["location"])
                        check_source(url, self._config)
                        continue
                    _check(response.status, said)
                    framed = "content-length" in said or "chunked" in said.get("transfer-encoding", "").lower()
                    yield Answer(url, framed, response.aiter_stream())
                    return
        limit = self._config.source_max_redirects
        raise SourceRefused(f"The source redirects more than {limit} times.", limit=limit)

    async def read(self, url: str, most: int, what: str) -> tuple[str, bytes]:
        """Where the redirects led, and all of what is there. Raises what `get` raises, and SourceLimit."""
        data = bytearray()
        async with self.get(url) as answer:
            async for chunk in answer.body:
                data += chunk
                if len(data) > most:
                    raise SourceLimit(f"{what} has more than {most} bytes.", limit=most, actual=len(data))
        return answer.url, bytes(data)


def _check(status: int, headers: dict[str, str]) -> None:
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in LATER:
        raise Broken(f"the server answered {status}")
    if status != HTTPStatus.OK:
        raise SourceRefused(f"The source cannot be fetched: its server answered {status}.", actual=status)
    coding = headers.get("content-encoding", "identity")
    if coding != "identity":
        raise SourceRefused(f"The source is sent in the coding {coding!r}; it is needed as it is.", actual=coding)
