"""Reads a transport stream over SRT, by Debian's `srt-live-transmit` as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl, urlsplit

from service.errors import SourceNotAllowed, SourceRefused
from service.sources.addresses import PinnedBackend
from service.sources.config import SourceConfig
from service.sources.ranges import Broken, check_source
from service.sources.stream_logins import StreamLogins

TOOL = "srt-live-transmit"
SRT = ("srt", "srt")
MOST_LATENCY_MS = 10_000
_READ_BYTES = 1 << 16
_SAID_BYTES = 1 << 11
# The tool takes a URL apart at ampersands and knows no escapes.
_STREAM_ID = re.compile(r"[!-%'-~]{1,512}")
_PASSPHRASE = re.compile(r"[!-%'-~]{10,79}")
_GOODBYE_S = 5.0


def check_srt(url: str, config: SourceConfig, *, encrypted: bool) -> None:
    """Raise SourceNotAllowed where nothing may be fetched from `url`, SourceRefused where SRT is not spoken here."""
    check_source(url, config, SRT)
    if not encrypted and not config.source_private_targets:
        raise SourceNotAllowed(
            "The URL of the source cannot be used: SRT without a passphrase is plain. Name `credentials`.",
            actual=url,
        )
    if urlsplit(url).port is None:
        raise SourceNotAllowed("The URL of the source cannot be used: the port is missing.", actual=url)
    _options(url)
    _tool()


class SrtClient:
    """Calls servers of SRT. The address is resolved, checked and handed to the tool as a number."""

    def __init__(self, config: SourceConfig, backend: PinnedBackend, logins: StreamLogins, idle_s: float) -> None:
        """What says nothing for `idle_s` is broken."""
        self._config = config
        self._backend = backend
        self._logins = logins
        self._idle_s = idle_s

    async def play(self, url: str, credentials: str | None) -> AsyncGenerator[bytes, None]:
        """The transport stream, which has no end of its own: it breaks off.

        Raises:
            Broken, httpcore.ConnectError: not now.
            SourceNotAllowed, SourceRefused, ForbiddenTarget: never.
        """
        check_srt(url, self._config, encrypted=credentials is not None)
        parts = urlsplit(url)
        host, options, secret = parts.hostname or "", _options(url), ""
        if credentials is not None:
            secret = self._logins.find(credentials, host).password.get_secret_value()
            if not _PASSPHRASE.fullmatch(secret):
                raise SourceRefused("A passphrase of SRT has 10 to 79 printable characters, none of which is `&`.")
            options["passphrase"] = secret
        port = parts.port or 0
        address = await self._backend.address(host, port)
        place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        called = f"srt://{place}?" + "&".join(f"{name}={value}" for name, value in options.items())
        async with _running(_tool(), "-a:no", "-q", "-ll:error", called, "file://con") as (output, said):
            while True:
                try:
                    async with asyncio.timeout(self._idle_s):
                        piece = await output.read(_READ_BYTES)
                except TimeoutError:
                    raise Broken(f"nothing came for {self._idle_s:g} s") from None
                if not piece:
                    why = (await said).decode("utf-8", "replace").strip()
                    raise Broken(_without(secret, why) or "the connection could not be made, or ended")
                yield piece


def _options(url: str) -> dict[str, str]:
    """Options of the connection, those of the URL checked. Raises SourceRefused."""
    options = {"mode": "caller", "transtype": "live"}
    for name, value in parse_qsl(urlsplit(url).query, keep_blank_values=True):
        if name == "latency" and re.fullmatch(r"[0-9]{1,9}", value):
            if int(value) > MOST_LATENCY_MS:
                raise SourceRefused(
                    f"The latency of the source is {value} ms; at most {MOST_LATENCY_MS} ms are waited.",
                    limit=MOST_LATENCY_MS,
                    actual=int(value),
                )
        elif not (name == "streamid" and _STREAM_ID.fullmatch(value)):
            raise SourceRefused(
                f"The option {name[:40]!r} of the source cannot be used: `latency` in ms and `streamid` of up to 512"
                " printable characters, none of which is `&`, are.",
                actual=name[:40],
            )
        options[name] = value
    return options


def _without(secret: str, text: str) -> str:
    return text.replace(secret, "…") if secret else text


def _tool() -> str:
    found = shutil.which(TOOL)
    if found is None:
        raise SourceRefused(
            f"SRT is not spoken here: {TOOL} is missing. The operator installs Debian's package srt-tools.", actual=TOOL
        )
    return found


@asynccontextmanager
async def _running(*command: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.Task[bytes]]]:
    """A process with nothing of this one's environment: its output, and what it will have said of an error."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={},
        cwd="/",
    )
    output, errors = process.stdout, process.stderr
    if output is None or errors is None:
        raise AssertionError
    said = asyncio.create_task(_last_of(errors))
    try:
        yield output, said
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        said.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await process.wait()


async def _last_of(stream: asyncio.StreamReader) -> bytes:
    """The last bytes of a stream, once it has ended."""
    kept = b""
    while piece := await stream.read(_SAID_BYTES):
        kept = (kept + piece)[-_SAID_BYTES:]
    return kept
