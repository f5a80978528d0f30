"""Open an upload so that FFmpeg can read these bytes and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, NoReturn, Protocol

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard
from av.video.stream import VideoStream

from service.errors import Undecodable
from service.video.sniff import Family

# What a packet takes beside its data: a file of 16 MiB may hold a million of a few bytes each.
PACKET_BYTES = 512


class Openable(Protocol):
    """A path, or a file that is held open in the place of one."""

    def open(self, mode: str) -> IO[bytes]:
        """The file, read or written from its beginning."""


class _AnonymousFile:
    """A binary file without its `name`: FFmpeg must neither guess a format nor resolve siblings from a path."""

    def __init__(self, raw: IO[bytes]) -> None:
        self.read = raw.read
        self._seek = raw.seek
        self.tell = raw.tell
        self.seekable = raw.seekable
        self.readable = raw.readable

    def seek(self, offset: int, whence: int) -> int:
        """Seek; a damaged file that points before its own beginning gets an error code, which FFmpeg can handle."""
        try:
            return self._seek(offset, whence)
        except OSError:
            return -1


def refuse_open(url: str, flags: int, options: object) -> NoReturn:
    """For FFmpeg, where what it reads names another file. Raises PermissionError."""
    raise PermissionError("an upload may not open other files")


@contextmanager
def open_upload(
    path: Openable, family: Family, max_pixels: int, *, fast_open: bool = False
) -> Iterator[InputContainer]:
    """The container at `path`, read by the family's demuxer.

    With `fast_open` no picture is decoded: what only pictures say, of the order in which they come above all, may be
    missing.

    Raises:
        Undecodable: the demuxer cannot make sense of the header.
    """
    with path.open("rb") as raw:
        try:
            container = av.open(
                _AnonymousFile(raw),
                mode="r",
                format=family.demuxer,
                # These options reach the decoders that FFmpeg opens for itself while it looks for streams.
                options={"max_pixels": str(max_pixels), **({"skip_frame": "all"} if fast_open else {})},
                container_options={"format_whitelist": family.demuxer, **({"probesize": "32"} if fast_open else {})},
                metadata_errors="replace",
                io_open=refuse_open,
            )
        except FFmpegError as error:
            raise Undecodable(
                f"The {family.name} container cannot be opened; its header or index is damaged or missing "
                f"({error.strerror}).",
                actual=str(error.strerror),
            ) from error
        with container:
            yield container


def read_packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """All packets of `stream` that carry data; the demuxer skips every other stream."""
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    index = stream.index
    try:
        for packet in container.demux(stream):
            if packet.size and packet.stream_index == index:
                yield packet
    except IndexError:
        # After the last packet PyAV stumbles over streams that only appeared along the way.
        return
