"""One stream's decoder, set up for a decode process and held to the limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from av.codec.context import ThreadType
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from service.errors import FrameLimit
from service.video.config import VideoLimits

FrameSink = Callable[[int, VideoFrame], None]
# Called with the presentation times of the next wanted timestamps whose frames were given to the sink for good.
Settled = Callable[[Sequence[float]], None]


@dataclass(frozen=True)
class DecodeStats:
    """What the decoder did.

    Attributes:
        times_s: the presentation time of the frame picked for each wanted timestamp, in the same order.
        frames_decoded: how many frames were decoded.
        errors: how many packets did not decode, or only in parts.
        last_error: what was wrong with the last of them.
    """

    times_s: tuple[float, ...]
    frames_decoded: int
    errors: int
    last_error: str


class Decoder:
    """A codec context of one thread whose frames are counted and measured.

    Attributes:
        frames: how many frames came out.
    """

    def __init__(self, context: VideoCodecContext, limits: VideoLimits, mend: bool = True) -> None:
        """With `mend` damage is concealed where the decoder can; without it every fault is an error."""
        # More threads only help a single decode, and FFmpeg's have been seen to hang when many decodes run at once.
        context.thread_count = 1
        context.thread_type = ThreadType.NONE
        context.options = {"max_pixels": str(limits.max_pixels), **({} if mend else {"err_detect": "explode"})}
        self._context = context
        self._limits = limits
        self._skipping = False
        self.frames = 0

    def decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        """The frames that come out when `packet` goes in; all that are left for None.

        Raises:
            FFmpegError: the packet does not decode.
            FrameLimit, PixelLimit: the stream is larger than the limits allow.
        """
        frames = self._context.decode(packet)
        self.frames += len(frames)
        if self.frames > self._limits.max_decoded_frames:
            raise FrameLimit(
                f"More than {self._limits.max_decoded_frames} frames would have to be decoded.",
                limit=self._limits.max_decoded_frames,
                actual=self.frames,
            )
        for frame in frames:
            self._limits.check_pixels(frame.width, frame.height)
        return frames

    def skip_unreferenced(self, skip: bool) -> None:
        """Whether packets from here on need not decode where no other frame refers to theirs."""
        if skip != self._skipping:
            self._context.skip_frame = "NONREF" if skip else "DEFAULT"
            self._skipping = skip

    def restart(self) -> None:
        """Forget all pictures; the next packet has to be a keyframe."""
        self._context.flush_buffers()
