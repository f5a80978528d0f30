"""HTTP by httptools, the parser that is used wherever it can be had, within the limits of `http_guard`."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.api.http_guard import Guarded, long_url, too_many_bytes, too_many_headers


class GuardedHttpTools(Guarded, HttpToolsProtocol):
    """Counts what the parser takes in without giving the application anything: a head, trailers, a chunk extension."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.unproductive = 0
        """bytes that the parser took in since it last gave the application something"""
        self.produced = False

    def _parse(self, data: bytes) -> None:
        limit = self.limits.max_header_bytes
        while data and not self.refused:
            # One more than the limit shows that it is exceeded; the parser never holds more than that.
            part = data if self._in_body else data[: limit + 1 - self.unproductive]
            self.produced = False
            HttpToolsProtocol.data_received(self, part)
            self.unproductive = 0 if self.produced else self.unproductive + len(part)
            if self.unproductive > limit and not self.refused:
                self.refuse(too_many_bytes(limit))
            data = data[len(part) :]

    @property
    def _in_body(self) -> bool:
        return self.unproductive == 0 and self.under_way and self.cycle.more_body

    def on_message_begin(self) -> None:
        """A head begins."""
        self.parts = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the URL."""
        super().on_url(url)
        if len(self.url) > self.limits.max_url_bytes:
            self.refusal = long_url(self.limits.max_url_bytes)
            raise self.refusal

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""
        self.parts += 1
        if self.parts > self.limits.max_headers:
            self.refusal = too_many_headers(self.limits.max_headers)
            raise self.refusal
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self.produced = True
        self.head_arrived()
        # Interim answers came with HTTP/1.1; an older client takes one for the answer.
        self.expect_100_continue = self.expect_100_continue and self.parser.get_http_version() != "1.0"
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body. One that is taken before the next comes, as nearly all are, is never copied."""
        self.produced = True
        cycle = self.cycle
        if not cycle.body and not cycle.response_complete:
            # Uvicorn makes bytes of it once it is taken, which these are already.
            cycle.body, body = body, b""  # type: ignore[assignment]
        elif isinstance(cycle.body, bytes):
            cycle.body = bytearray(cycle.body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self.produced = True
        super().on_message_complete()
