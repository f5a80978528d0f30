"""When each frame of a stream is presented, learnt from its packets without decoding any."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from service.errors import PacketLimit, Undecodable


@dataclass(frozen=True)
class Timeline:
    """Packets of the video stream in the order of the file, and what they say about time.

    Attributes:
        time_base: seconds of one tick.
        pts: int64 [P], presentation timestamp of each packet in ticks.
        keyframe: bool [P], whether decoding can start at the packet.
        shown: bool [P], whether the packet's frame is presented (edit lists hide some).
        complete: whether every packet carried its own presentation timestamp.
        origin: timestamp of the first presented frame, in ticks.
        end: timestamp at which the last presented frame ends, in ticks.
        demux_error: what FFmpeg said where reading broke off; None if the file was read to its end.
    """

    time_base: Fraction
    pts: NDArray[np.int64]
    keyframe: NDArray[np.bool_]
    shown: NDArray[np.bool_]
    complete: bool
    origin: int
    end: int
    demux_error: str | None

    @property
    def tick_s(self) -> float:
        """Seconds of one tick."""
        return float(self.time_base)

    @property
    def duration_s(self) -> float:
        """Seconds from the first presented frame to the end of the last."""
        return float((self.end - self.origin) * self.time_base)

    @property
    def presented(self) -> NDArray[np.int64]:
        """int64 [F], timestamps of the presented frames in ticks, ascending."""
        return np.sort(self.pts[self.shown & (self.pts >= self.origin)])

    @property
    def frame_times_s(self) -> list[float]:
        """Seconds from the first presented frame to each presented frame, ascending."""
        return [float((int(pts) - self.origin) * self.time_base) for pts in self.presented]

    @property
    def fps(self) -> float | None:
        """Average frames per second; None for fewer than two frames."""
        frames = len(self.presented)
        return frames / self.duration_s if frames > 1 and self.duration_s > 0 else None


def _frame_period(presented: NDArray[np.int64], stream: VideoStream) -> int:
    steps = np.diff(presented)
    steps = steps[steps > 0]
    if len(steps):
        return int(np.median(steps))
    if stream.average_rate and stream.time_base:
        return max(1, round(1 / (stream.average_rate * stream.time_base)))
    return 1


def read_timeline(packets: Iterable[Packet[Any]], stream: VideoStream, max_packets: int) -> Timeline:
    """Walk all packets of `stream`.

    Raises:
        PacketLimit: there are more than `max_packets`.
        Undecodable: there are none.
    """
    pts, durations = array("q"), array("q")
    keyframe, shown = bytearray(), bytearray()
    complete, demux_error = True, None
    following = 0
    try:
        for packet in packets:
            if len(pts) == max_packets:
                raise PacketLimit(
                    f"The file holds more than {max_packets} packets of video.", limit=max_packets, actual=len(pts) + 1
                )
            stamp = packet.pts
            if stamp is None:
                complete = False
                stamp = packet.dts if packet.dts is not None else following
            duration = packet.duration or 0
            following = stamp + max(duration, 1)
            pts.append(stamp)
            durations.append(duration)
            keyframe.append(packet.is_keyframe)
            shown.append(not packet.is_discard)
    except FFmpegError as error:
        demux_error = str(error.strerror)
    if not pts or not any(shown) or stream.time_base is None:
        found = f"reading broke off: {demux_error}" if demux_error else "its video stream holds no packets"
        raise Undecodable(f"The file has no video to decode: {found}.", actual=found)

    ticks = np.array(pts, dtype=np.int64)
    keys = np.array(keyframe, dtype=np.bool_)
    visible = np.array(shown, dtype=np.bool_)
    # Frames that precede the first keyframe in time cannot be decoded, so presentation starts with the keyframe.
    first_key = int(ticks[keys][0]) if keys.any() else int(ticks[visible].min())
    decodable = visible & (ticks >= first_key)
    usable = decodable if decodable.any() else visible
    presented = np.sort(ticks[usable])
    last = int(presented[-1])
    last_duration = int(np.array(durations, dtype=np.int64)[usable & (ticks == last)].max())
    return Timeline(
        time_base=stream.time_base,
        pts=ticks,
        keyframe=keys,
        shown=visible,
        complete=complete,
        origin=int(presented[0]),
        end=last + (last_duration if last_duration > 0 else _frame_period(presented, stream)),
        demux_error=demux_error,
    )
