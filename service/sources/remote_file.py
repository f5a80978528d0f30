"""A file on a web server or in a bucket of which only those bytes are fetched that somebody reads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import httpcore

from service.contracts import SourceRead
from service.errors import EmptyUpload, SourceLimit, SourceNotAllowed
from service.sources.addresses import ForbiddenTarget
from service.sources.config import SourceConfig
from service.sources.ranges import Broken, Part, Validator, changed, unavailable

BLOCK_BYTES = 1 << 16
# What is fetched when reading begins somewhere, and at most while it goes on from there.
FIRST_BYTES, LARGEST_BYTES = 4 * BLOCK_BYTES, 32 * BLOCK_BYTES
# A gap that is fetched along costs less than a request of its own.
GAP_BLOCKS = 2
TRIES = 4
PAUSE_S = 0.2
BROKEN = (Broken, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)


class Sink(Protocol):
    """Where the bytes go."""

    async def reserve(self, length: int) -> None:
        """The file will have so many bytes, of which most may never come."""

    async def write_at(self, offset: int, data: bytes) -> None:
        """Bytes of the file."""

    async def write(self, chunk: bytes) -> None:
        """The next bytes of a file that comes as a whole."""


class Ranges(Protocol):
    """What asks for ranges of one file."""

    requests: int
    """how many were made"""

    def get(self, start: int, end: int, known: Validator | None) -> AbstractAsyncContextManager[Part]:
        """The bytes from `start` to before `end` of a file that was `known` before; perhaps the whole of it.

        Raises Broken where the same request may succeed, VidtrError where it will not.
        """

    async def close(self) -> None:
        """Hang up."""


class RemoteFile:
    """One file elsewhere, while it is decoded."""

    def __init__(self, client: Ranges, config: SourceConfig, sink: Sink) -> None:
        self._client = client
        self._config = config
        self._sink = sink
        self._clock = asyncio.get_running_loop().time
        self._busy_s = 0.0
        self._read = 0
        self._total: int | None = None
        self._have = bytearray()
        self._reached = 0
        self._ahead = FIRST_BYTES
        self._size = 0
        self.validator = Validator("")

    @property
    def size(self) -> int | None:
        """Bytes that it has; None until it is open, and where the whole of it was fetched."""
        return self._size or None

    @property
    def read(self) -> SourceRead:
        """What was fetched so far."""
        return SourceRead(bytes_read=self._read, bytes_total=self._total, requests=self._client.requests)

    async def close(self) -> None:
        """Hang up."""
        await self._client.close()

    async def open(self) -> None:
        """Fetch the beginning, or everything where the server knows no ranges.

        Raises SourceRefused, SourceUnavailable, SourceNotAllowed, SourceLimit, EmptyUpload, and what the sink raises.
        """
        await self._again_and_again(self._open)

    async def fetch(self, offset: int, length: int) -> None:
        """Have these bytes, and some that follow, in the sink.

        Raises SourceChanged, and what `open` raises.
        """
        first, last = offset // BLOCK_BYTES, (min(self._size, offset + length) - 1) // BLOCK_BYTES
        reading_on, self._reached = offset == self._reached, offset + length
        if all(self._have[first : last + 1]):
            return
        # Reading that goes on beyond what was fetched is likely to go on: larger pieces, fewer of them.
        self._ahead = min(2 * self._ahead, LARGEST_BYTES) if reading_on else FIRST_BYTES
        wanted = max(last, first + self._ahead // BLOCK_BYTES - 1)
        for begin, end in self._missing(first, min(wanted, len(self._have) - 1)):
            await self._again_and_again(lambda begin=begin, end=end: self._get(begin, end))  # type: ignore[misc]

    def _missing(self, first: int, last: int) -> list[tuple[int, int]]:
        """Runs of blocks, `[begin, end)`, that are to be fetched so that `first` to `last` are there."""
        runs: list[tuple[int, int]] = []
        for block in range(first, last + 1):
            if self._have[block]:
                continue
            if runs and block - runs[-1][1] <= GAP_BLOCKS:
                runs[-1] = (runs[-1][0], block + 1)
            else:
                runs.append((block, block + 1))
        return runs

    async def _open(self) -> None:
        if self._size:
            # What came before the connection broke is known and there.
            await self._get(0, min(len(self._have), FIRST_BYTES // BLOCK_BYTES))
            return
        async with self._client.get(0, FIRST_BYTES, None) as part:
            if part.ranged and part.total is not None:
                self._total = self._size = part.total
                self.validator = part.validator
                self._have = bytearray(-(-self._size // BLOCK_BYTES))
                await self._sink.reserve(self._size)
                await self._receive(part, FIRST_BYTES)
                return
            self._total = part.total
            if part.total is not None:
                self._check_bytes(part.total)
            await self._receive_whole(part)

    async def _receive_whole(self, part: Part) -> None:
        """Write what comes in order: it cannot begin again."""
        try:
            async for chunk in part.body:
                self._check_bytes(len(chunk))
                self._read += len(chunk)
                await self._sink.write(chunk)
        except BROKEN as error:
            raise unavailable(1, str(error) or type(error).__name__) from error
        if part.total is not None and self._read < part.total:
            raise unavailable(1, f"{self._read} of {part.total} bytes came")
        if not self._read:
            raise EmptyUpload("The source is empty: it has 0 bytes.")
        self._total = self._read

    async def _get(self, begin: int, end: int) -> None:
        """Fetch blocks. What is there already after a broken try is not fetched again."""
        while begin < end and self._have[begin]:
            begin += 1
        if begin == end:
            return
        start, stop = begin * BLOCK_BYTES, min(end * BLOCK_BYTES, self._size)
        self._check_bytes(stop - start)
        async with self._client.get(start, stop, self.validator) as part:
            if part.total != self._size:
                raise changed()
            await self._receive(part, stop - start)

    async def _receive(self, part: Part, length: int) -> None:
        """Write what comes, block by block: only whole blocks count."""
        at, pending = part.start, bytearray()
        stop = min(part.start + length, self._size)
        async for chunk in part.body:
            pending += chunk
            self._read += len(chunk)
            whole = len(pending) if at + len(pending) >= stop else len(pending) // BLOCK_BYTES * BLOCK_BYTES
            if whole:
                await self._sink.write_at(at, bytes(pending[:whole]))
                for block in range(at // BLOCK_BYTES, -(-(at + whole) // BLOCK_BYTES)):
                    self._have[block] = True
                at += whole
                del pending[:whole]
        if at < stop:
            raise Broken(f"the connection broke off at byte {at + len(pending)}")

    async def _again_and_again(self, step: Callable[[], Awaitable[None]]) -> None:
        why, tries = "", 0
        while tries < TRIES:
            if tries:
                await asyncio.sleep(PAUSE_S * 2 ** (tries - 1))
            self._check_requests()
            began, there = self._clock(), sum(self._have)
            left_s = self._config.source_timeout_s - self._busy_s
            try:
                async with asyncio.timeout(left_s):
                    await step()
                return
            except TimeoutError:
                limit = self._config.source_timeout_s
                raise SourceLimit(f"Fetching the source took longer than {limit:g} s.", limit=limit) from None
            except ForbiddenTarget as error:
                raise SourceNotAllowed(f"The source cannot be fetched: {error}.") from error
            except BROKEN as error:
                why = str(error) or type(error).__name__
                # A line that breaks again and again is no dead one.
                tries = 1 if sum(self._have) > there else tries + 1
            finally:
                self._busy_s += self._clock() - began
        raise unavailable(TRIES, why)

    def _check_bytes(self, more: int) -> None:
        limit = self._config.source_max_bytes
        if self._read + more > limit:
            raise SourceLimit(
                f"{self._read + more} bytes of the source would have to be read; at most {limit} are.",
                limit=limit,
                actual=self._read + more,
            )

    def _check_requests(self) -> None:
        limit = self._config.source_max_requests
        if self._client.requests >= limit:
            raise SourceLimit(f"The source takes more than {limit} requests to read.", limit=limit, actual=limit + 1)
