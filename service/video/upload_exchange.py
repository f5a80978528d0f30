"""One upload and the sandbox worker that decodes it: what is handed over, and what is said until the report."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.errors import DecodeTimeout
from service.video.decode_report import Asked
from service.video.progress import Progress, ProgressReader
from service.video.sandbox_worker import SandboxWorker, SandboxWorkerGone
from service.video.supply import Supply, request_of


@dataclass(frozen=True)
class Upload:
    """One upload, and all that is to be done with it."""

    path: Path
    out: Path
    asked: Asked
    caller: str
    job: str
    supply: Supply | None
    progress: Progress | None


async def reported(worker: SandboxWorker, upload: Upload, limit_s: float) -> bytes:
    """The report of a sandbox worker on its upload; it is supplied and tells of its progress meanwhile.

    Decoding may take `limit_s`; waiting for bytes counts as none.

    Raises DecodeTimeout, SandboxWorkerGone, and what `supply` and `progress` raise.
    """
    supply = upload.supply
    reader = None if upload.progress is None else ProgressReader(upload.asked, upload.progress)
    clock = asyncio.get_running_loop().time
    left_s = limit_s
    size = supply.size if supply is not None else None
    while True:
        began = clock()
        try:
            async with asyncio.timeout(left_s):
                said = await worker.report(upload.asked.report_bytes)
        except TimeoutError as error:
            raise DecodeTimeout(f"Decoding took longer than {limit_s:g} s.", limit=limit_s) from error
        left_s -= clock() - began
        if reader is not None and reader.read(said):
            continue
        if supply is None or size is None:
            return said
        try:
            wanted = request_of(said, size)
        except ValueError as error:
            raise SandboxWorkerGone from error
        if wanted is None:
            return said
        await supply.fetch(*wanted)
        await worker.supply()


@contextlib.contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """A descriptor of the file at `path`, closed at the end."""
    # Only a regular file can be decoded; a pipe must not hold up the whole process before that is found out.
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
