"""A form around one video: the bytes of its part `file` into the spool, every other part refused."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.api.spool import Spool
from service.errors import InvalidOption, MalformedRequest, sentence

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

# The framing of a form around its one file; a longer prelude is no upload of ours.
FORM_OVERHEAD_BYTES = 64 * 1024
LONGEST_PADDING = 100
_LINE_END = re.compile(rb"[ \t]{0,%d}(\r\n|--)" % LONGEST_PADDING)


async def _without_preamble(chunks: AsyncIterator[bytes], boundary: bytes) -> AsyncIterator[bytes]:
    """The form from its first boundary on, with nothing before it and no blanks after it (RFC 2046, 5.1.1).

    The parser knows neither. What a form of one part has after that, it reads. Raises MalformedRequest.
    """
    opening = b"--" + boundary
    head, searched = b"", 0
    async for chunk in chunks:
        # What nearly every client sends needs no change, and so no copy.
        if searched < 0 or (not head and chunk.startswith(opening + b"\r\n")):
            searched = -1
            yield chunk
            continue
        head += chunk
        searched, rest = _opened(head, opening, searched)
        if rest is not None:
            yield opening + rest
        elif len(head) > FORM_OVERHEAD_BYTES:
            detail = f"The first {FORM_OVERHEAD_BYTES} bytes of the form have no boundary. Send the video first."
            raise MalformedRequest(detail, limit=FORM_OVERHEAD_BYTES)
    if searched >= 0 and head:
        raise MalformedRequest("The form does not contain the boundary that its Content-Type names.")


def _opened(head: bytes, opening: bytes, searched: int) -> tuple[int, bytes | None]:
    """What follows the first boundary; where it is not there yet, None after the place from which to search on.

    The place is -1 once it was found. A chunk may be a single byte: what was searched is not searched again.
    """
    while True:
        line = 0 if searched == 0 and head.startswith(opening) else head.find(b"\r\n" + opening, searched)
        if line < 0:
            return max(0, len(head) - len(opening) - 1), None
        end = head.index(opening, line) + len(opening)
        if (found := _LINE_END.match(head, end)) is not None:
            return -1, found[1] + head[found.end() :]
        if len(head) - end <= LONGEST_PADDING + 2:
            return line, None
        searched = end


async def receive_form(chunks: AsyncIterator[bytes], spool: Spool, boundary: bytes) -> None:
    """Stream the part `file` into `spool`. Raises MalformedRequest, InvalidOption, and what the spool raises."""
    if not boundary:
        raise MalformedRequest("The Content-Type of the form has no boundary. Leave this header to your HTTP library.")
    form = _FileForm()
    try:
        parser = MultipartParser(boundary, form.callbacks())
        async for chunk in _without_preamble(chunks, boundary):
            parser.write(chunk)
            for piece in form.take():
                await spool.write(piece)
        parser.finalize()
    except FormParserError as error:
        detail = f"The form cannot be parsed: {sentence(str(error))}"
        raise MalformedRequest(detail) from error
    if not form.ended:
        detail = "The form ends before its closing boundary."
        raise MalformedRequest(detail)
    if form.files == 0:
        detail = "The form has no part named 'file'. Send the video as this part."
        raise MalformedRequest(detail)


class _FileForm:
    """Callbacks for the parser: collects the bytes of the part `file` and refuses every other part."""

    def __init__(self) -> None:
        self.files = 0
        self.ended = False
        self._header = b""
        self._value = b""
        self._disposition = b""
        self._pieces: list[memoryview] = []

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_end": self._on_end,
        }

    def take(self) -> list[memoryview]:
        """The file's bytes since the last call: places in what was parsed."""
        pieces, self._pieces = self._pieces, []
        return pieces

    def _on_part_begin(self) -> None:
        self._disposition = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name != "file":
            detail = f"Form field {name!r} is unknown. The form has one part, 'file'; send options as query parameters."
            raise InvalidOption(detail, actual=name)
        self.files += 1
        if self.files > 1:
            detail = "The form has more than one part named 'file'. Send one video per request."
            raise InvalidOption(detail, limit=1, actual=self.files)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append(memoryview(data)[start:end])

    def _on_end(self) -> None:
        self.ended = True
