"""What a caller asks of a live stream."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from service.contracts.job_requests import JobRequest
from service.contracts.wire_types import LiveAttention, ModelName
from service.wire_model import WireModel


class StreamSource(WireModel):
    """Where the service fetches a stream itself."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(
        min_length=1,
        max_length=2048,
        description="an MPEG transport stream or a fragmented MP4 that does not end, the playlist of HLS (`.m3u8`), a"
        " camera that speaks RTSP (`rtsps://`), or an encoder that speaks SRT (`srt://`)",
    )
    credentials: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="name of the server's credentials for this source of RTSP or SRT: a user and password, or a"
        " passphrase",
    )

    @property
    def scheme(self) -> str:
        """How it is fetched: the scheme of the URL, which may be anything."""
        return self.url.partition(":")[0].lower()

    @property
    def packets(self) -> bool:
        """Whether it comes as packets of RTP."""
        return self.scheme in ("rtsp", "rtsps")


class StreamRequest(WireModel):
    """Options of one live stream."""

    model_config = ConfigDict(extra="forbid")

    model: ModelName | None = Field(None, description="model to use; the server's default when absent")
    version: str | None = Field(None, pattern=r"^[0-9]{1,18}$", description="model version; the newest when absent")
    top_k: int = Field(5, ge=1, le=1000, description="labels in each list of predictions")
    min_score: float = Field(0.0, ge=0.0, le=1.0, description="labels below this score are left out")
    step: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="seconds between the starts of windows; a model's span when absent",
    )
    crops: Literal[1, 3] = Field(1, description="spatial crops of each window")
    stream: int | None = Field(
        None, ge=0, le=1000, description="number of the video stream to look at, from 0; chosen by rule when absent"
    )
    attention: LiveAttention = Field("frames", description="how much attention the answer carries")
    max_s: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="seconds after which the session ends; the server's limit if less"
    )
    source: StreamSource | None = Field(None, description="where to fetch the stream; absent where it is sent")
    webhook: str | None = Field(
        None, max_length=2048, description="URL that gets a message of each event, and of the end of the session"
    )

    def decoding(self) -> JobRequest:
        """What the recording would be asked for, to have these windows."""
        return JobRequest(windows="all", stride=self.step, crops=self.crops, stream=self.stream)

    def scoring(self, version: str | None) -> JobRequest:
        """What is asked of each window, of this version of the model."""
        return JobRequest(
            model=self.model,
            version=version,
            top_k=self.top_k,
            min_score=self.min_score,
            windows=1,
            crops=self.crops,
            attention=self.attention,
        )
