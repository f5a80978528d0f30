"""HTTP by h11, the parser in Python for where httptools cannot be had, within the limits of `http_guard`."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.api.http_guard import Guarded, long_url, too_many_bytes, too_many_headers


class _H11Connection(h11.Connection):
    """h11's, which bounds bytes by itself; here the URL and the number of headers as well."""

    def __init__(self, owner: GuardedH11) -> None:
        super().__init__(h11.SERVER, owner.limits.max_header_bytes)
        self._owner = owner

    def next_event(self) -> Any:
        """The next event. Raises h11.RemoteProtocolError for what is refused."""
        owner, limits = self._owner, self._owner.limits
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            if error.error_status_hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
                owner.refusal = too_many_bytes(limits.max_header_bytes)
            raise
        if isinstance(event, h11.Request):
            owner.head_arrived()
            owner.headers = list(event.headers)
            # What comes whole never waited in the buffer.
            head = len(event.target) + sum(len(name) + len(value) + len(": \r\n") for name, value in event.headers)
            if head > limits.max_header_bytes:
                owner.refusal = too_many_bytes(limits.max_header_bytes)
            elif len(event.target) > limits.max_url_bytes:
                owner.refusal = long_url(limits.max_url_bytes)
            elif len(event.headers) > limits.max_headers:
                owner.refusal = too_many_headers(limits.max_headers)
            if owner.refusal is not None:
                raise h11.RemoteProtocolError(owner.refusal.detail)
        return event


class GuardedH11(Guarded, H11Protocol):  # type: ignore[misc]
    """h11 bounds the bytes that wait in its buffer by itself."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.conn = _H11Connection(self)

    def _parse(self, data: bytes) -> None:
        H11Protocol.data_received(self, data)
