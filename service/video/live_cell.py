"""A stream in a sandbox worker: bytes go in as they arrive, whole windows come out as they are complete."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from service.errors import DecodeTimeout
from service.video.live_report import LiveAsked, LiveEnd, LiveReader, LiveStart, LiveWindow
from service.video.pool import DecodePool
from service.video.sandbox_worker import LIVE, SandboxWorker, SandboxWorkerGone

Feed = Callable[[int], Awaitable[tuple[bytes, bool]]]
"""gives at most so many bytes as soon as there are some, and none at the end; and whether they have waited too long"""
Taken = Callable[[LiveWindow, bytes], Awaitable[None]]
"""called with each window and its clips, uint8 `[crops, T, H, W, 3]` RGB; nothing is decoded until it returns"""


class LiveCell:
    """Decodes one stream. Its clips are in an unnamed file of the spool, a few windows at a time."""

    def __init__(self, pool: DecodePool, caller: str, asked: LiveAsked, folder: Path) -> None:
        self._pool = pool
        self._caller = caller
        self._asked = asked
        self._folder = folder

    async def run(self, feed: Feed, taken: Taken, started: Callable[[LiveStart], None]) -> LiveEnd:
        """Decode until `feed` ends.

        Raises:
            DecodeTimeout: the decoder did nothing for `decode_timeout_s`, waiting for bytes not counted.
            DecodeCpuLimit, DecodeMemoryLimit: it used up what it may use.
            DecoderCrash: its process ended, or reported what cannot be.
            TooManyCrashes: so did those of too many uploads of this caller before.
            VidtrError: whatever `decode_live` found, and what `feed` and `taken` raise.
        """
        asked = self._asked
        with tempfile.TemporaryFile(dir=self._folder) as clips, open(os.devnull, "rb") as nothing:  # noqa: ASYNC230
            async with self._pool.apart(self._caller) as (worker, config):
                await worker.begin(
                    nothing.fileno(),
                    clips.fileno(),
                    asked.model_dump_json().encode(),
                    cpu_s=config.decode_cpu_s + int(asked.most_s),
                    file_bytes=asked.places * asked.window_bytes,
                    supplied=LIVE,
                )
                reader = LiveReader(asked, config)
                while True:
                    found = reader.read(await self._said(worker, config.decode_timeout_s))
                    if isinstance(found, LiveEnd):
                        return found
                    if isinstance(found, int):
                        data, late = await feed(found)
                        await worker.send(data[:found], late=late)
                        continue
                    if isinstance(found, LiveStart):
                        started(found)
                    else:
                        await taken(found, self._read(clips.fileno(), found.number))
                    await worker.supply()

    async def _said(self, worker: SandboxWorker, limit_s: float) -> bytes:
        try:
            async with asyncio.timeout(limit_s):
                return await worker.report(self._asked.message_bytes)
        except TimeoutError as error:
            raise DecodeTimeout(
                f"Decoding a part of the stream took longer than {limit_s:g} s.", limit=limit_s
            ) from error

    def _read(self, clips: int, number: int) -> bytes:
        size = self._asked.window_bytes
        data = os.pread(clips, size, number % self._asked.places * size)
        if len(data) != size:
            raise SandboxWorkerGone
        return data
