"""What a sandbox worker says of an upload while it decodes it: the windows whose clips are complete.

It is as untrusted as the report at the end, which `service.video.decode_report` checks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from service.contracts import DecodedVideo, SampledWindow
from service.video.decode_report import Asked, check_plan, check_times, unbelievable

# Windows that are told of first, and then at a time: soon, and in pieces that fill a batch. A video of no more is there
# soon enough.
FIRST_WINDOWS, MORE_WINDOWS = 4, 32
_BEGINS = b'{"progress":'

Tell = Callable[[dict[str, Any]], None]
Progress = Callable[[DecodedVideo, int], None]
"""called with what is known of the video, and how many of its windows have their clips and the times of their frames"""


class Told:
    """Tells of the leading windows that are complete; the last ones come with the report."""

    def __init__(self, tell: Tell, slots: Sequence[Sequence[int]], plan: Callable[[], DecodedVideo]) -> None:
        """`slots` has for each window the numbers of the wanted times of its frames, ascending.

        `plan` says what is known once the first frame was decoded, with the wanted times in place of those shown.
        """
        self._tell = tell
        self._slots = slots
        self._plan = plan
        self._shown_s: list[float] = []
        self._told = 0

    def settled(self, times_s: Sequence[float]) -> None:
        """Further wanted times have their frames, which are shown at `times_s`. Tell of windows, if they are enough."""
        self._shown_s += times_s
        if len(self._slots) <= MORE_WINDOWS:
            return
        ready = self._told
        while ready < len(self._slots) - 1 and self._slots[ready][-1] < len(self._shown_s):
            ready += 1
        if ready - self._told < (MORE_WINDOWS if self._told else FIRST_WINDOWS):
            return
        complete = self._slots[self._told : ready]
        said: dict[str, Any] = {"times_s": [[self._shown_s[at] for at in slots] for slots in complete]}
        if not self._told:
            said["plan"] = self._plan().model_dump(mode="json")
        self._tell({"progress": said})
        self._told = ready


class _Said(BaseModel):
    model_config = ConfigDict(strict=True)

    plan: DecodedVideo | None = None
    times_s: tuple[tuple[float, ...], ...]


class _Message(BaseModel):
    model_config = ConfigDict(strict=True)

    progress: _Said


class ProgressReader:
    """Reads what one sandbox worker says of one upload, and hands it on."""

    def __init__(self, asked: Asked, progress: Progress) -> None:
        self._asked = asked
        self._progress = progress
        self._plan: DecodedVideo | None = None
        self._ready = 0

    def read(self, message: bytes) -> bool:
        """Whether this is about progress; then it was handed on. Raises Unbelievable."""
        if not message.startswith(_BEGINS):
            return False
        try:
            said = _Message.model_validate_json(message, strict=True).progress
        except ValueError as problem:
            raise unbelievable("its progress cannot be read") from problem
        if (said.plan is None) == (self._plan is None):
            raise unbelievable("its plan comes once, and first")
        if said.plan is not None:
            check_plan(said.plan, self._asked)
            self._plan = said.plan
        plan = self._plan
        if plan is None or not 0 < len(said.times_s) < len(plan.windows) - self._ready:
            raise unbelievable("the number of complete windows cannot be so")
        windows = list(plan.windows)
        for w, times_s in enumerate(said.times_s, start=self._ready):
            check_times(times_s, self._asked)
            windows[w] = SampledWindow(start_s=windows[w].start_s, end_s=windows[w].end_s, times_s=times_s)
        self._ready += len(said.times_s)
        self._plan = plan.model_copy(update={"windows": tuple(windows)})
        self._progress(self._plan, self._ready)
        return True
