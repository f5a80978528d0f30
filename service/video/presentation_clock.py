"""One continuous clock for streams whose timestamps do not form one.

Recordings that were joined, recorders that restart and signals that were interrupted leave timestamps that run back or
leap ahead. Players go on with the next picture; so does this clock. GIFs are shown with the delays of browsers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from av.packet import Packet
from numpy.typing import NDArray

from service.video.packet_index import Packets

# Families of broadcast and recorders, in which a clock may start anew at any packet.
JUMPY_FAMILIES = ("mpegts", "mpeg", "flv", "asf")
# There only a recording after a recording starts anew: a gap is a picture that stood still.
RESTARTING_FAMILIES = ("matroska",)
_WRAPPING_FAMILIES = ("mpegts", "mpeg")
_WRAP_TICKS = 1 << 33
# Pictures out of order step back less than this.
BACK_S = 0.5
# As in FFmpeg's own player: a gap this long in a running picture is none of the recording.
GAP_S = 10.0
# A video with pictures as rare as that has no gaps, it is slow.
SLOW_STEPS = 8
# Browsers show pictures of a GIF that ask for less than 20 ms for 100 ms.
_HURRIED_S, _UNHURRIED_S = Fraction(1, 100), Fraction(1, 10)


@dataclass(frozen=True)
class Jump:
    """Where timestamps jumped.

    Attributes:
        at_s: seconds on the continuous clock, from its first packet.
        by_s: how far the next timestamp was from where it should have been.
    """

    at_s: float
    by_s: float


@dataclass(frozen=True)
class PresentationClock:
    """What to add to timestamps to make them continuous.

    Attributes:
        shifts: int64 [P], ticks to add to those of each packet of the stream, in the order of the file.
        jumps: where that closes a gap or a step back.
    """

    shifts: NDArray[np.int64]
    jumps: tuple[Jump, ...] = ()

    def continued(self, packets: Iterable[Packet[Any]]) -> Iterator[Packet[Any]]:
        """The packets of the stream, from its first, with continuous timestamps."""
        shifts = self.shifts.tolist()
        for number, packet in enumerate(packets):
            if shift := shifts[min(number, len(shifts) - 1)]:
                packet.pts = None if packet.pts is None else packet.pts + shift
                packet.dts = None if packet.dts is None else packet.dts + shift
            yield packet


def straightened(packets: Packets, family: str, time_base: Fraction) -> tuple[Packets, PresentationClock | None]:
    """The packets on a continuous clock, and that clock; None where their own is continuous."""
    if len(packets.pts) < 2:
        return packets, None
    if family == "gif":
        return _unhurried(packets, time_base)
    if family in JUMPY_FAMILIES:
        starts = _jumps(packets, time_base)
    elif family in RESTARTING_FAMILIES:
        starts = _restarts(packets, time_base)
    else:
        return packets, None
    if not len(starts):
        return packets, None
    return _joined(packets, starts, time_base, _WRAP_TICKS if family in _WRAPPING_FAMILIES else 0)


def _unhurried(packets: Packets, time_base: Fraction) -> tuple[Packets, PresentationClock | None]:
    hurried = packets.duration <= float(_HURRIED_S / time_base)
    if not hurried.any():
        return packets, None
    duration = np.where(hurried, round(_UNHURRIED_S / time_base), packets.duration)
    starts = packets.pts[0] + np.concatenate(([0], np.cumsum(duration)[:-1]))
    clock = PresentationClock(starts - packets.pts)
    return replace(packets, pts=starts, dts=starts, duration=duration), clock


def _jumps(packets: Packets, time_base: Fraction) -> NDArray[np.intp]:
    """Places of packets that are decoded before the one in front of them, or long after it."""
    steps = np.diff(packets.dts)
    back, gap = -float(BACK_S / time_base), float(GAP_S / time_base)
    if steps.min() >= back and steps.max() <= gap:
        return np.empty(0, dtype=np.intp)
    return np.flatnonzero((steps < back) | (steps > max(gap, SLOW_STEPS * usual_step(steps)))) + 1


def _restarts(packets: Packets, time_base: Fraction) -> NDArray[np.intp]:
    """Places of keyframes that are shown before the keyframe in front of them, which no reordering does."""
    keys = np.flatnonzero(packets.keyframe)
    return keys[np.flatnonzero(np.diff(packets.pts[keys]) < -float(BACK_S / time_base)) + 1]


def usual_step(steps: NDArray[np.int64]) -> int:
    """The median of the steps that go forward, in ticks; 1 where none does."""
    return int(np.median(steps[steps > 0])) if (steps > 0).any() else 1


def _joined(
    packets: Packets, starts: NDArray[np.intp], time_base: Fraction, wrap: int
) -> tuple[Packets, PresentationClock]:
    """The packets with each stretch that begins at one of `starts` set behind the one before it."""
    usual = usual_step(np.diff(packets.dts))
    lengths = np.where(packets.duration > 0, packets.duration, usual)
    shifts = np.zeros(len(packets.pts), dtype=np.int64)
    jumps = []
    shown_until = int((packets.pts + lengths)[: starts[0]].max())
    for begin, end in zip(starts.tolist(), [*starts[1:].tolist(), len(shifts)], strict=True):
        shift = shown_until - int(packets.pts[begin:end].min())
        expected, found = shown_until - int(shifts[begin - 1]), shown_until - shift
        # Where FFmpeg took a step back for the end of a counter of 33 bits, it says so much too late a time.
        by = found % wrap - expected % wrap if wrap else found - expected
        jumps.append(
            Jump(float((shown_until - int(packets.pts[: starts[0]].min())) * time_base), float(by * time_base))
        )
        shifts[begin:end] = shift
        shown_until = int((packets.pts + lengths)[begin:end].max()) + shift
    return replace(packets, pts=packets.pts + shifts, dts=packets.dts + shifts), PresentationClock(shifts, tuple(jumps))
