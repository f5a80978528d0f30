"""CMX 3600 edit decision lists: each span is an edit, one behind the other, with a locator at its peak."""

from __future__ import annotations

from service.exports.spans import Kind, NamedResult, Span
from service.exports.timecode import FrameRate

# Programs begin at one hour, so that what is put in front of them still has a timecode.
RECORD_HOUR = 1


def cmx3600(video: NamedResult, kind: Kind) -> str:
    """The list at the rate of the video. Source times count from the first frame of the file."""
    rate = video.rate
    lines = [f"TITLE: {video.stem}", f"FCM: {'DROP FRAME' if rate.drop_frame else 'NON-DROP FRAME'}"]
    record = rate.hour(RECORD_HOUR)
    for number, span in enumerate(video.spans(kind), 1):
        start = rate.frame(span.start_s)
        length = max(1, rate.frame(span.end_s) - start)
        lines += ["", *_edit(number, span, rate, start, length, record), f"* FROM CLIP NAME: {video.title}"]
        record += length
    return "\n".join(lines) + "\n"


def _edit(number: int, span: Span, rate: FrameRate, start: int, length: int, record: int) -> list[str]:
    source = f"{rate.timecode(start)} {rate.timecode(start + length)}"
    target = f"{rate.timecode(record)} {rate.timecode(record + length)}"
    peak = record + min(length - 1, max(0, rate.frame(span.peak_s) - start))
    return [
        f"{number:03}  AX       V     C        {source} {target}",
        f"* LOC: {rate.timecode(peak)} GREEN   {span.title}",
    ]
