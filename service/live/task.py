"""What a session is to do, as it is kept in Redis: enough for any process to go on with it."""

from __future__ import annotations

import math

from pydantic import Field

from service.contracts import ClipSpec, ModelSpec
from service.contracts.stream_requests import StreamRequest
from service.live.window_queue import AT_A_TIME
from service.wire_model import WireModel


class LiveCaller(WireModel):
    """Who began a session: what quotas and shares need."""

    owner: str
    tenant: str
    identity: str
    requests: str | None = None
    video_seconds: str | None = None


class LiveTask(WireModel):
    """A session: what was asked, with which model, for whom."""

    request: StreamRequest
    caller: LiveCaller
    clip: ClipSpec
    model: str
    version: str
    step_s: float
    max_s: float = Field(description="seconds after which it ends")

    @property
    def window_bytes(self) -> int:
        """Bytes of the clips of one window."""
        return self.request.crops * self.clip.clip_bytes

    @property
    def places(self) -> int:
        """How many windows are being made at a time: those that overlap, and one that is read meanwhile."""
        return math.ceil(self.clip.span_s / self.step_s) + 2

    @property
    def least_bytes(self) -> int:
        """Bytes of clips that are held at a time at least: of windows that are made, and of those that are scored."""
        return self.window_bytes * max(self.places, AT_A_TIME + 1)

    def most_waiting(self, windows: int, clip_bytes: int) -> int:
        """How many windows may wait to be scored: so many, if they fit into `clip_bytes` with those being scored."""
        return max(1, min(windows, clip_bytes // self.window_bytes - AT_A_TIME))

    @classmethod
    def of(cls, request: StreamRequest, caller: LiveCaller, spec: ModelSpec, max_s: float) -> LiveTask:
        """The task of a request for this model, which lasts at most `max_s`."""
        return cls(
            request=request,
            caller=caller,
            clip=spec.clip,
            model=spec.name,
            version=spec.version,
            step_s=request.step or spec.span_s,
            max_s=min(max_s, request.max_s or max_s),
        )
