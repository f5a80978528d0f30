"""`service.video.presentation_clock` for a stream that is still arriving: the same clock, a few packets later."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from av.packet import Packet

from service.video.packet_index import REORDER_DEPTH
from service.video.presentation_clock import (
    BACK_S,
    GAP_S,
    JUMPY_FAMILIES,
    RESTARTING_FAMILIES,
    SLOW_STEPS,
    usual_step,
)

# What steps are usual is known after so many; a camera does not change its rate for hours.
_STEPS = 512


class LiveClock:
    """Makes timestamps continuous, as `straightened` does where it knows the whole file.

    Attributes:
        jumps: how many gaps or steps back were closed.
    """

    def __init__(self, family: str, time_base: Fraction) -> None:
        self._by_step = family in JUMPY_FAMILIES
        self._by_keyframe = family in RESTARTING_FAMILIES
        self._back = -float(BACK_S / time_base)
        self._gap = float(GAP_S / time_base)
        self._steps = array("q")
        self._last_dts: int | None = None
        self._last_key: int | None = None
        self._shift = 0
        self._shown_until: int | None = None
        self.jumps = 0

    def continued(self, packets: Iterable[Packet[Any]]) -> Iterator[Packet[Any]]:
        """The packets with continuous timestamps. After a jump some are held until the first in time is among them."""
        if not (self._by_step or self._by_keyframe):
            yield from packets
            return
        held: list[Packet[Any]] = []
        for packet in packets:
            if self._jumped(packet):
                yield from self._set_behind(held)
                held = [packet]
                self.jumps += 1
            elif held:
                held.append(packet)
            else:
                yield self._shifted(packet)
            if len(held) > REORDER_DEPTH:
                yield from self._set_behind(held)
                held = []
        yield from self._set_behind(held)

    def _jumped(self, packet: Packet[Any]) -> bool:
        """Whether the packet begins a stretch with a clock of its own."""
        pts, dts = _stamps(packet)
        if pts is None or dts is None:
            return False
        if self._by_keyframe:
            if not packet.is_keyframe:
                return False
            last, self._last_key = self._last_key, pts
            return last is not None and pts - last < self._back
        last, self._last_dts = self._last_dts, dts
        if last is None:
            return False
        step = dts - last
        if 0 < step and len(self._steps) < _STEPS:
            self._steps.append(step)
        return step < self._back or (step > self._gap and step > SLOW_STEPS * self._usual())

    def _usual(self) -> int:
        return usual_step(np.asarray(self._steps, dtype=np.int64))

    def _set_behind(self, held: list[Packet[Any]]) -> Iterator[Packet[Any]]:
        """The first packets of a stretch, which begins where the one before it ends."""
        stamps = [pts for pts, _ in map(_stamps, held) if pts is not None]
        if stamps and self._shown_until is not None:
            self._shift = self._shown_until - min(stamps)
        for packet in held:
            yield self._shifted(packet)

    def _shifted(self, packet: Packet[Any]) -> Packet[Any]:
        if self._shift:
            packet.pts = None if packet.pts is None else packet.pts + self._shift
            packet.dts = None if packet.dts is None else packet.dts + self._shift
        pts, _ = _stamps(packet)
        if pts is not None:
            ends = pts + (packet.duration or self._usual())
            self._shown_until = ends if self._shown_until is None else max(self._shown_until, ends)
        return packet


def _stamps(packet: Packet[Any]) -> tuple[int | None, int | None]:
    """Presentation and decoding timestamp, each in place of the other where that is missing."""
    pts, dts = packet.pts, packet.dts
    return (dts if pts is None else pts), (pts if dts is None else dts)
