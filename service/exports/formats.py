"""The list of formats, by the names that callers use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.errors import InvalidOption
from service.exports import edl, otio, subtitles, tables
from service.exports.spans import Kind, NamedResult

Write = Callable[[Sequence[NamedResult], Kind], str]


@dataclass(frozen=True)
class Format:
    """How one format is written, called and sent."""

    name: str
    write: Write
    extension: str
    media_type: str
    holds_many: bool
    """whether a file may hold several videos"""


def _single(write: Callable[[NamedResult, Kind], str]) -> Write:
    def written(videos: Sequence[NamedResult], kind: Kind) -> str:
        [video] = videos
        return write(video, kind)

    return written


_JSON = "application/json"

FORMATS: dict[str, Format] = {
    each.name: each
    for each in (
        Format("json", tables.results, "json", _JSON, holds_many=True),
        Format("csv", tables.comma_separated, "csv", "text/csv", holds_many=True),
        Format("vtt", _single(subtitles.webvtt), "vtt", "text/vtt", holds_many=False),
        Format("srt", _single(subtitles.subrip), "srt", "application/x-subrip", holds_many=False),
        Format("edl", _single(edl.cmx3600), "edl", "text/x-edl", holds_many=False),
        Format("otio", _single(otio.opentimeline), "otio", _JSON, holds_many=False),
        Format("activitynet", tables.activitynet, "activitynet.json", _JSON, holds_many=True),
        Format("label-studio", tables.label_studio, "label-studio.json", _JSON, holds_many=True),
        Format("fiftyone", tables.fiftyone, "fiftyone.json", _JSON, holds_many=True),
    )
}


def named(name: str) -> Format:
    """The format of this name. Raises InvalidOption, which lists them all."""
    try:
        return FORMATS[name]
    except KeyError:
        known = ", ".join(FORMATS)
        raise InvalidOption(f"`format` must be one of {known}, not {name!r}.", limit=known, actual=name) from None
