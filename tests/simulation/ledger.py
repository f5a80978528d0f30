"""What clients were told and what they did, to be compared with what Redis holds."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from service.contracts import JobRecord
from tests.simulation.plan import Op


@dataclass
class Job:
    """One job that an API tried to accept."""

    record: JobRecord
    op: Op
    began_s: float
    """when its upload began, by the one true clock"""
    promised: bool = False
    erased: bool = False
    """somebody was told that it is deleted"""
    being_erased: bool = False
    """somebody tried to delete it"""
    replays: int = 0
    """tries to replay it"""
    dropped: bool = False


@dataclass
class Stream:
    """One live stream that a client asked for."""

    op: Op
    promised: bool = False
    """whether the client knows of it"""
    being_ended: bool = False
    """somebody tried to end it"""
    heard: list[str] = field(default_factory=list)
    """ids of the events that its webhook was told"""


@dataclass
class Batch:
    """One batch that a client sent."""

    op: Op
    promised: bool = False
    """whether the client knows that it was accepted"""
    being_cancelled: bool = False
    """somebody tried to cancel it"""


@dataclass
class Ledger:
    """The account of one schedule."""

    jobs: dict[str, Job] = field(default_factory=dict)
    streams: dict[str, Stream] = field(default_factory=dict)
    """live streams"""
    batches: dict[str, Batch] = field(default_factory=dict)
    told: defaultdict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    """ids of jobs that the client of a request was told of"""
    heard: defaultdict[str, list[tuple[float, str]]] = field(default_factory=lambda: defaultdict(list))
    """what the webhook of a job was told: when the job ended, and how"""
    spent: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """when requests of an owner passed its quota"""
    wrong: list[str] = field(default_factory=list)

    def violated(self, what: str) -> None:
        """A promise is broken."""
        if what not in self.wrong:
            self.wrong.append(what)
