"""WebVTT and SubRip: a line of text for as long as a label holds, over the picture of any player."""

from __future__ import annotations

import html

from service.exports.spans import Kind, NamedResult


def webvtt(video: NamedResult, kind: Kind) -> str:
    """One cue for each span (https://www.w3.org/TR/webvtt1/)."""
    cues = [
        f"{number}\n{_clock(span.start_s, '.')} --> {_clock(span.end_s, '.')}\n{html.escape(span.title, quote=False)}\n"
        for number, span in enumerate(video.spans(kind), 1)
    ]
    return "\n".join(["WEBVTT\n", *cues])


def subrip(video: NamedResult, kind: Kind) -> str:
    """One numbered block for each span."""
    return "".join(
        f"{number}\n{_clock(span.start_s, ',')} --> {_clock(span.end_s, ',')}\n{span.title}\n\n"
        for number, span in enumerate(video.spans(kind), 1)
    )


def _clock(time_s: float, mark: str) -> str:
    seconds, ms = divmod(round(time_s * 1000), 1000)
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}{mark}{ms:03}"
