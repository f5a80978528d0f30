"""Limits of HTTP that hold before a request reaches the application, for both of uvicorn's protocols.

Uvicorn reads the head of a request without end and waits for it without end. Here what the parser takes in without
giving the application anything (a head, trailers, a chunk extension) is bounded in bytes, and a head in time. What is
refused is answered with a problem document, as everything else is.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from uvicorn.config import Config
from uvicorn.server import ServerState

from service.api.connections import Connections
from service.api.cors import answer_headers
from service.api.early_response import DRAIN_BYTES, DRAIN_S
from service.api.half_closed import HalfClosed
from service.api.problems import MEDIA_TYPE, problem_body, retry_after
from service.errors import HeadersTooLarge, HeadTimeout, MalformedRequest, TooManyConnections, UrlTooLong, VidtrError

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as _Base
else:
    _Base = object

CROWDED_RETRY_S = 5.0


class Guarded(_Base):
    """Common to both protocols: a place for the connection, the time limit of a head, the way to refuse."""

    def __init__(
        self,
        guard: Connections,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.guard = guard
        self.limits = guard.config
        self.heard = False
        """whether anything of the next head has arrived"""
        self.head_timer: asyncio.TimerHandle | None = None
        self.stall_timer: asyncio.TimerHandle | None = None
        self.refused = False
        self.drained = 0
        self.refusal: VidtrError | None = None

    # --- the connection

    @property
    def under_way(self) -> bool:
        """Whether a request has begun that is not answered yet."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def idle(self) -> bool:
        """As `Connection` says."""
        return not self.under_way

    @property
    def address(self) -> str | None:
        """Address of the other end; None for a unix socket."""
        return self.client[0] if self.client else None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, or refuse it."""
        super().connection_made(transport)
        if not self.guard.admit(self, self.address):
            self._turn_away()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection and its timers."""
        self._cancel_head_timer()
        self.resume_writing()
        self.guard.remove(self)
        super().connection_lost(exc)

    def give_way(self) -> None:
        """As `Connection` says."""
        self._cancel_head_timer()
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Parse, within the limits."""
        if self.refused:
            self.drained += len(data)
            if self.drained > DRAIN_BYTES:
                self.transport.abort()
            return
        if not self.under_way:
            self.heard = True
            self._await_head()
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        super().data_received(data)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more. Whether the connection is kept for the answer to a whole request.

        It is not for HTTP/1.0, which knows no interim answers: nothing would tell a client that waits from one that is
        gone, and what nobody waits for is not worked out to its end.
        """
        cycle = self.cycle
        if self.refused or not self.under_way or cycle.more_body or cycle.response_started:
            return False
        if cycle.scope["http_version"] != "1.1":
            return False
        cycle.keep_alive = False
        # While answers to earlier requests are being written, their writes tell.
        HalfClosed(self.transport, self.loop, lambda: not (cycle.response_started or self.answers_ahead)).probe()
        return True

    @property
    def answers_ahead(self) -> bool:
        """Whether other answers come before that of the last request."""
        return bool(getattr(self, "pipeline", ()))

    # --- time

    def _await_head(self) -> None:
        if self.head_timer is None and not self.transport.is_closing():
            self.head_timer = self.loop.call_later(self.limits.head_timeout_s, self._head_overdue)

    def _cancel_head_timer(self) -> None:
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None

    def head_arrived(self) -> None:
        self.heard = False
        self._cancel_head_timer()

    def _head_overdue(self) -> None:
        self.head_timer = None
        if self.transport.is_closing() or self.under_way:
            return
        if self.heard:
            limit = self.limits.head_timeout_s
            self.refuse(HeadTimeout(f"The request head was not complete after {limit:g} s.", limit=limit))
        else:
            # Browsers open connections in advance and take an answer without a request for that to their next one.
            self.guard.closed("silent", self.address)
            self.transport.close()

    def pause_writing(self) -> None:
        """The client does not read: it may do so only for a while."""
        super().pause_writing()
        if self.stall_timer is None:
            self.stall_timer = self.loop.call_later(self.limits.answer_stall_s, self._stalled)

    def resume_writing(self) -> None:
        """The client reads again."""
        if self.stall_timer is not None:
            self.stall_timer.cancel()
            self.stall_timer = None
        super().resume_writing()

    def _stalled(self) -> None:
        self.guard.closed("answer_stalled", self.address)
        self.transport.abort()

    # --- refusing

    def _turn_away(self) -> None:
        """Refuse the connection as such. Nothing waits for what it sends: each such wait would hold a descriptor."""
        self.refused = True
        limit, address_limit = self.guard.limit, self.guard.limit_per_address
        error = TooManyConnections(
            f"All {limit} connections, or all {address_limit} from this address, are busy. Try again later.",
            limit=limit,
            retry_after_s=CROWDED_RETRY_S,
        )
        self.guard.closed(error.code, self.address)
        self.transport.write(self._answer(error))
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls for a request that cannot be parsed."""
        self.refuse(self.refusal or MalformedRequest("The request is not valid HTTP/1.1."))

    def refuse(self, error: VidtrError) -> None:
        """Answer with `error` and close. An answer that has begun, or one that is due before it, is not disturbed."""
        if self.refused or self.transport.is_closing():
            return
        self.refused = True
        self._cancel_head_timer()
        self.guard.closed(error.code, self.address)
        if self.under_way and not self.cycle.more_body:
            # The fault is in a request sent ahead of this one's answer.
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            return
        if self.under_way:
            begun = self.cycle.response_started
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if begun:
                self.transport.close()
                return
        self.transport.write(self._answer(error))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(DRAIN_S, self.transport.abort)

    def _answer(self, error: VidtrError) -> bytes:
        """The whole answer, as bytes for the wire."""
        request_id = uuid4().hex
        body = problem_body(error, request_id)
        content = json.dumps(body).encode()
        headers = [
            *self.server_state.default_headers,
            *answer_headers(self._origin(), self.limits.cors_origins),
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(content)).encode()),
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
        ]
        if error.retry_after_s is not None:
            headers.append((b"retry-after", str(retry_after(error.retry_after_s)).encode()))
        first = f"HTTP/1.1 {body['status']} {body['title']}\r\n".encode()
        return first + b"".join(name + b": " + value + b"\r\n" for name, value in headers) + b"\r\n" + content

    def _origin(self) -> str | None:
        """The `Origin` of the request, where it was read before the fault."""
        return next((value.decode("latin-1") for name, value in self.headers or () if name == b"origin"), None)


def too_many_bytes(limit: int) -> VidtrError:
    return HeadersTooLarge(f"The request head is longer than {limit} bytes. Send shorter headers.", limit=limit)


def too_many_headers(limit: int) -> VidtrError:
    return HeadersTooLarge(f"The request has more than {limit} headers. Send fewer.", limit=limit)


def long_url(limit: int) -> VidtrError:
    return UrlTooLong(f"The request URL is longer than {limit} bytes. Send a shorter one.", limit=limit)
