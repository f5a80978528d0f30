"""What a flow of the client asks to be done next, and the progress that it tells of."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from service.client.classify_events import ClassifyEvents
from service.client.uploads import Upload

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """How far a request is: bytes sent, or clips scored of a job. `total` is None where it is not known."""

    stage: Literal["upload", "clips"]
    done: int
    total: int | None


OnProgress = Callable[[Progress], None]


def no_progress(progress: Progress) -> None:
    """Ignore progress."""


@dataclass(frozen=True)
class Send:
    """Send one request and read its whole answer. A `shielded` one is sent even while its task is being cancelled.

    An answer that is a stream of events goes to `events`, which finds the whole answer among them.
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    upload: Upload | None = None
    progress: OnProgress = no_progress
    shielded: bool = False
    events: ClassifyEvents | None = None

    def all_headers(self) -> dict[str, str]:
        """With the length of the body, without which it is sent chunked."""
        known = self.upload is not None and self.upload.length is not None
        return {**self.headers, **({"Content-Length": str(self.upload.length)} if known and self.upload else {})}

    def report(self, sent: int, total: int | None) -> None:
        """Pass on how much of the body was sent."""
        self.progress(Progress("upload", sent, total))


@dataclass(frozen=True)
class Sleep:
    """Do nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Compute:
    """Call something that takes long, and answer with what it returns."""

    run: Callable[[], Any]


Step = Send | Sleep | Compute
Steps = Generator[Step, Any, T]
