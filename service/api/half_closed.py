"""Clients that close their side once the request is sent, as `nc -N` and some proxies do, and wait for the answer.

The end of what a client sends looks the same whether it waits or is gone: only a write tells, because the system of a
client that is gone refuses it. So an interim answer is written now and then, which clients skip (RFC 9110, 15.2).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PROBE_S = 0.25
# Slower and slower: a client that has stayed for long most likely stays.
SLOWER = 1.5
LONGEST_PROBE_S = 15.0
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"


class HalfClosed:
    """Asks a half-closed connection whether anybody is there, until its answer begins."""

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, waiting: Callable[[], bool]
    ) -> None:
        """`waiting` says whether the answer has not begun: no interim answer may come later."""
        self._transport = transport
        self._loop = loop
        self._waiting = waiting
        self._pause_s = PROBE_S

    def probe(self) -> None:
        """Write, and again after a pause. The first write that is refused ends the connection, like any other."""
        if self._transport.is_closing() or not self._waiting():
            return
        self._transport.write(INTERIM)
        self._loop.call_later(self._pause_s, self.probe)
        self._pause_s = min(self._pause_s * SLOWER, LONGEST_PROBE_S)
