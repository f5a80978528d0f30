"""The entries of the clip streams and the state of their clips, read from the replies of Redis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from service.contracts import JobClass
from service.queue.clip_routes import model_of
from service.queue.redis_keys import MORE_COMING_FIELD


@dataclass(frozen=True)
class ClipEntry:
    """One stream entry: which clip to score, and until when. Times are Unix seconds."""

    entry_id: str
    model: str
    version: str
    job_id: str
    clip: int
    shape: tuple[int, ...]
    enqueued_at: float
    deadline_at: float
    job_class: JobClass = JobClass.INTERACTIVE
    deliveries: int = 1
    trace: str = ""
    more_coming: bool = False
    """whether other uploads were waiting for a decode process when it was queued: their clips come soon"""
    route: str = ""
    """the route on which it waits"""
    weights: str = ""
    """SHA-256 of the weights that are to score it; empty where an earlier release queued it"""
    view: int | None = None
    """the number of the whole clip that it is made of, whose bytes others are made of too; None for one of its own"""
    kept: str = ""
    """a digit for each frame, `0` where it is left out; empty where the clip is whole"""
    spatial: bool = False
    """whether its answer says where the model looked"""

    @property
    def payload(self) -> int:
        """The number of the clip whose bytes it needs."""
        return self.clip if self.view is None else self.view


@dataclass(frozen=True)
class ClipState:
    """The state of an entry's clip in Redis."""

    payload: bytes | None
    scored: bool
    job: str
    """`open`, `gone`, or how the job has ended: `finished`, or `dead` while its payloads are kept for a replay"""
    failure: str | None = None
    """what went wrong when clips of this job were last given back"""
    record: bytes | None = None
    """only where none of the job's clips is scored and all of them came in this delivery"""


@dataclass(frozen=True)
class Delivery:
    """Entries that were delivered to a worker, with the state of their clips where it came in the same reply."""

    entries: list[ClipEntry]
    prefetched: dict[ClipEntry, ClipState] = field(default_factory=dict)


_ENDED = {b"dead": "dead"}


def state_of(
    payload: bytes | None,
    total: bytes | None,
    finished: bytes | None,
    failure: bytes | None,
    scored: int,
    record: bytes | None = None,
) -> ClipState:
    """The state of a clip, from the reply of the scripts `take` and `look_up` in its order."""
    return ClipState(
        payload=payload,
        scored=bool(scored),
        failure=failure.decode() if failure else None,
        job="gone" if total is None else "open" if finished is None else _ENDED.get(finished, "finished"),
        record=record,
    )


def pairs(fields: Sequence[bytes]) -> dict[bytes, bytes]:
    """The fields of an entry as a script returns them."""
    return dict(zip(fields[::2], fields[1::2], strict=True))


def entry_of(
    route: str, job_class: JobClass, entry_id: bytes, fields: dict[bytes, bytes], deliveries: int = 1
) -> ClipEntry:
    """An entry of a stream. Fields may be missing where an earlier release queued it."""
    return ClipEntry(
        entry_id=entry_id.decode(),
        model=model_of(route),
        version=fields[b"version"].decode(),
        job_id=fields[b"job"].decode(),
        clip=int(fields[b"clip"]),
        shape=tuple(int(n) for n in fields[b"shape"].split(b",")),
        enqueued_at=float(fields[b"enqueued_at"]),
        deadline_at=float(fields[b"deadline_at"]),
        job_class=job_class,
        deliveries=deliveries,
        trace=fields.get(b"trace", b"").decode(),
        more_coming=fields.get(MORE_COMING_FIELD.encode()) == b"1",
        route=route,
        weights=fields.get(b"weights", b"").decode(),
        view=int(fields[b"view"]) if b"view" in fields else None,
        kept=fields.get(b"kept", b"").decode(),
        spatial=b"spatial" in fields,
    )
