"""Twelve kinds of caller that take what others need. Each goes on until it is cancelled, and costs little itself.

They come from an address of their own on the loopback network, and with an API key of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count

SOURCE = "127.0.0.2"
FILM = "windows=all&crops=3"
MOST_ANSWER_BYTES = 1 << 24
"""Of an event stream that is read at once: a slow machine scores many windows before the last is decoded."""


@dataclass
class Target:
    """What is abused, by whom, and with how many connections at a time."""

    port: int
    key: str
    clip: bytes
    """a short video"""
    film: bytes
    """a long one"""
    hook: str
    """a URL whose host takes connections and answers none"""
    connections: int
    sent: int = 0
    """requests that were begun"""
    numbers: count[int] = field(default_factory=count)

    def head(self, request: str, *headers: str, length: int | None = None) -> bytes:
        """The head of a request, such as `POST /v1/classify`."""
        lines = [f"{request} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {self.key}", *headers]
        if length is not None:
            lines += ["Content-Type: video/mp4", f"Content-Length: {length}"]
        return "\r\n".join([*lines, "", ""]).encode()

    def upload(self, query: str, body: bytes, *headers: str) -> bytes:
        """A whole upload."""
        return self.head(f"POST /v1/classify?{query}", "Connection: close", *headers, length=len(body)) + body

    @contextlib.asynccontextmanager
    async def connected(self):  # type: ignore[no-untyped-def]
        """A connection, aborted at the end: whoever abuses takes no leave."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, local_addr=(SOURCE, 0), limit=MOST_ANSWER_BYTES
        )
        self.sent += 1
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def asked(self, message: bytes) -> bytes:
        """Send a request and read until the server closes."""
        async with self.connected() as (reader, writer):
            writer.write(message)
            return bytes(await reader.read())


Abuser = Callable[[Target], Awaitable[None]]


async def again_and_again(times: int, every_s: float, once: Callable[[], Awaitable[object]]) -> None:
    """So many at a time, each begun anew a while after it has ended, however it ended."""

    async def one() -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await once()
            await asyncio.sleep(every_s)

    await asyncio.gather(*(one() for _ in range(times)))


async def drip(target: Target, size: int, *headers: str) -> None:
    """An upload that never ends: so many bytes a second."""
    async with target.connected() as (reader, writer):
        writer.write(target.head(f"POST /v1/classify?{FILM}", *headers, length=100_000_000) + b"x")
        while size and not reader.at_eof() and not writer.is_closing():
            await asyncio.sleep(1.0)
            writer.write(bytes(size))
        await reader.read()


async def silent_uploads(target: Target) -> None:
    """One byte of a body, then nothing."""
    await again_and_again(target.connections, 2.0, lambda: drip(target, 0))


async def dripping_uploads(target: Target) -> None:
    """A byte a second."""
    await again_and_again(target.connections, 2.0, lambda: drip(target, 1))


async def uploads_with_a_used_key(target: Target) -> None:
    """Slow, but not too slow, with an Idempotency-Key that leads to a job."""
    key = f"Idempotency-Key: used-{next(target.numbers)}"
    await target.asked(target.upload("windows=1", target.clip, key))
    await again_and_again(target.connections, 2.0, lambda: drip(target, 4096, key))


async def disconnects_after_decoding(target: Target) -> None:
    """Everybody's room and a long decode, for a result that nobody waits for."""

    async def once() -> None:
        async with target.connected() as (reader, writer):
            writer.write(target.upload(FILM, target.film, "Accept: text/event-stream"))
            await reader.readuntil(b"event: decoded")

    await again_and_again(2, 0.1, once)


async def giant_videos(target: Target) -> None:
    """As many clips as the options allow, several at a time."""
    await again_and_again(4, 0.1, lambda: target.asked(target.upload(FILM, target.film)))


async def endless_headers(target: Target) -> None:
    """A head that never ends."""

    async def once() -> None:
        async with target.connected() as (reader, writer):
            writer.write(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n")
            while not reader.at_eof() and not writer.is_closing():
                writer.write(b"X: " + bytes(1000).replace(b"\0", b"x") + b"\r\n")
                await asyncio.sleep(0.02)

    await again_and_again(min(target.connections, 20), 0.5, once)


async def idle_connections(target: Target) -> None:
    """Connections on which nothing is sent."""

    async def once() -> None:
        async with target.connected() as (reader, _):
            await reader.read()

    await again_and_again(2 * target.connections, 1.0, once)


async def followers(target: Target) -> None:
    """Event streams of one job, more than there is to see."""

    async def crowd() -> None:
        answer = await target.asked(target.upload(FILM, target.film, "Prefer: respond-async"))
        job = json.loads(answer.partition(b"\r\n\r\n")[2] or b"{}").get("id")
        if job is not None:
            stream = target.head(f"GET /v1/jobs/{job}/events", "Connection: close")
            await asyncio.gather(*(target.asked(stream) for _ in range(target.connections)), return_exceptions=True)

    await again_and_again(1, 0.5, crowd)


async def hanging_webhooks(target: Target) -> None:
    """Jobs whose end is told to somebody who does not listen."""
    query = f"windows=1&webhook={target.hook}"
    await again_and_again(1, 0.3, lambda: target.asked(target.upload(query, target.clip, "Prefer: respond-async")))


async def bulk_jobs(target: Target) -> None:
    """Jobs that nobody waits for, as fast as they are taken."""
    message = target.upload("windows=1", target.clip, "Prefer: respond-async")
    await again_and_again(2, 0.1, lambda: target.asked(message))


async def garbage(target: Target) -> None:
    """What cannot be decoded, found out at the cost of a decode process."""
    message = target.upload("windows=1", target.clip[:64] + bytes(50_000))
    await again_and_again(4, 0.1, lambda: target.asked(message))


async def polling(target: Target) -> None:
    """The list of jobs, again and again."""
    message = target.head("GET /v1/jobs?limit=100", "Connection: close")
    await again_and_again(4, 0.1, lambda: target.asked(message))


ABUSERS: dict[str, Abuser] = {
    abuser.__name__: abuser
    for abuser in (
        silent_uploads,
        dripping_uploads,
        uploads_with_a_used_key,
        disconnects_after_decoding,
        giant_videos,
        endless_headers,
        idle_connections,
        followers,
        hanging_webhooks,
        bulk_jobs,
        garbage,
        polling,
    )
}
