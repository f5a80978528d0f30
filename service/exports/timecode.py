"""Times as editors count them: whole frames at a nominal rate, and SMPTE timecode (ST 12-1) with drop-frame."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

# Where a file does not say how many frames a second has.
UNKNOWN_FPS = 25.0


@dataclass(frozen=True)
class FrameRate:
    """A rate of video, exact, with the whole number of frames that its timecode counts to a second."""

    fps: Fraction

    @classmethod
    def nearest(cls, fps: float | None) -> FrameRate:
        """The rate of film, PAL, NTSC or their doubles that is nearest to a measured average."""
        measured = fps if fps and fps > 0 else UNKNOWN_FPS
        return cls(min(_RATES, key=lambda rate: abs(float(rate) / measured - 1)))

    @property
    def base(self) -> int:
        """Frames that one second of timecode counts."""
        return round(self.fps)

    @property
    def drop_frame(self) -> bool:
        """Whether its timecode leaves out numbers, so that it keeps up with the clock: 29.97 and 59.94."""
        return self.fps.denominator == 1001 and self.base % 30 == 0

    @property
    def frame_s(self) -> float:
        """Seconds of one frame."""
        return float(1 / self.fps)

    def frame(self, time_s: float) -> int:
        """Number of the frame, from 0, whose start is nearest to a time."""
        return round(Fraction(time_s) * self.fps)

    def timecode(self, frame: int) -> str:
        """`HH:MM:SS:FF` of a frame from 0; `HH:MM:SS;FF` in drop-frame. A day has 24 hours: then it starts anew."""
        number = self._number(frame)
        seconds, frames = divmod(number, self.base)
        minutes, seconds = divmod(seconds, 60)
        mark = ";" if self.drop_frame else ":"
        return f"{minutes // 60 % 24:02}:{minutes % 60:02}:{seconds:02}{mark}{frames:02}"

    def hour(self, hour: int) -> int:
        """The frame at which a full hour of timecode begins."""
        dropped = self._dropped * 54 if self.drop_frame else 0
        return hour * (3600 * self.base - dropped)

    @property
    def _dropped(self) -> int:
        return self.base // 15

    def _number(self, frame: int) -> int:
        """The number that timecode gives a frame: each minute but every tenth leaves the first numbers out."""
        if not self.drop_frame:
            return frame
        minute = 60 * self.base - self._dropped
        ten_minutes = 10 * minute + self._dropped
        tens, rest = divmod(frame, ten_minutes)
        # The first minute of ten is longer, as it drops nothing.
        minutes = max(0, rest - self._dropped) // minute
        return frame + self._dropped * (9 * tens + minutes)


_RATES = (
    Fraction(24000, 1001),
    Fraction(24),
    Fraction(25),
    Fraction(30000, 1001),
    Fraction(30),
    Fraction(48),
    Fraction(50),
    Fraction(60000, 1001),
    Fraction(60),
)
