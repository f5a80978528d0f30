"""What an upload turned out to be."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from service.moments import ShotBoundary
from service.wire_model import WireModel

Mirror = Annotated[Literal["horizontal", "vertical"], Field(title="Mirror")]


class VideoInfo(WireModel):
    """What the upload is, as found by probing and decoding it."""

    duration_s: float = Field(description="seconds from the first presented frame to the end of the last")
    width: int = Field(description="display width in pixels, after rotation")
    height: int = Field(description="display height in pixels, after rotation")
    fps: float | None = Field(None, description="average frames per second; absent where the file does not say")
    container: str
    codec: str
    rotation: int = Field(description="degrees counter-clockwise that the file asks players to turn the picture")
    mirrored: Mirror | None = Field(
        None, description="how the file asks players to mirror the picture before they turn it"
    )
    frames_decoded: int
    stream: int | None = Field(
        None, description="number of the video stream that was used, from 0; covers do not count"
    )
    video_streams: int | None = Field(None, description="how many video streams the file has")


class AnswerWarning(WireModel):
    """Something the caller should know about an answer that was still given."""

    code: str
    detail: str


class SampledWindow(WireModel):
    """One temporal window and the real times of the frames that were sampled from it."""

    start_s: float
    end_s: float
    times_s: tuple[float, ...] = Field(description="presentation time of each of the T frames, in slot order")


class ClipPlan(WireModel):
    """Which view of a video a clip is. Clip number = window * crops + crop."""

    window: int = Field(ge=0)
    crop: int = Field(ge=0)


class SourceRead(WireModel):
    """What was fetched of a video by URL."""

    bytes_read: int
    bytes_total: int | None = Field(None, description="size of the file; null where its server did not say")
    requests: int


class DecodedVideo(WireModel):
    """What the video package returns beside the clips themselves."""

    video: VideoInfo
    coverage: float = Field(ge=0, le=1, description="share of the duration inside windows")
    windows: tuple[SampledWindow, ...]
    crops: int
    clip_shape: tuple[int, int, int, int]
    warnings: tuple[AnswerWarning, ...] = ()
    decode_ms: float
    source: SourceRead | None = Field(None, description="what was fetched; absent for an upload")
    boundaries: tuple[ShotBoundary, ...] | None = Field(
        None, description="where shots pass into each other; null where they were not looked for"
    )

    @property
    def clips(self) -> tuple[ClipPlan, ...]:
        """All views, window-major: the order of the clips in the file and of the clip numbers."""
        return tuple(ClipPlan(window=w, crop=c) for w in range(len(self.windows)) for c in range(self.crops))

    @property
    def clip_count(self) -> int:
        """How many `clips` there are."""
        return len(self.windows) * self.crops
