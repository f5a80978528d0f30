"""What happens in one schedule: requests, faults and the order of steps, all drawn from one seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

Kind = Literal[
    "upload", "delete", "status", "replay", "drop", "list", "room", "stream", "stream_end", "batch", "batch_cancel"
]
Stages = Literal["none", "all", "broken"]
Masking = Literal["all", "one", "updated", "rolled_back"]
FaultKind = Literal[
    "hold", "stall", "refused", "lost_reply", "cut_short", "crash", "full", "jump", "leave", "forgotten", "away", "stop"
]

WORKERS, APIS = 2, 2
LEASE_S = 2.0
OWNERS = ("", "", "ann")
BEFORE: tuple[FaultKind, ...] = (
    "hold",
    "hold",
    "hold",
    "stall",
    "refused",
    "lost_reply",
    "cut_short",
    "crash",
    "full",
    "jump",
    "leave",
    "forgotten",
    "away",
)


@dataclass(frozen=True)
class Op:
    """A request of a client, begun at `at` seconds by way of one API."""

    number: int
    kind: Kind
    at: float
    api: int
    owner: str = ""
    key: str | None = None
    clips: int = 1
    bad: int | None = None
    """clip that the backend cannot score"""
    body: int = 0
    """which of a few videos is sent"""
    deadline_s: float = 8.0
    webhook: bool = False
    asynchronous: bool = True
    upload_s: float = 0.1
    stages: Stages = "none"
    """whether its clips come one by one, and whether the decode fails before the last of them"""
    cached: bool = True
    """whether a result of the same video is good enough"""
    evidence: bool = False
    """whether each of its clips is scored with frames left out too"""
    target: int = 0
    """number of the upload whose job is meant"""

    def __str__(self) -> str:
        what = f"{self.at:.1f} s: request {self.number} at api {self.api}: {self.kind}"
        if self.kind == "upload":
            facts = [f"{self.clips} clips of video {self.body}", f"deadline {self.deadline_s:g} s"]
            facts += [f"key {self.key!r}"] if self.key else []
            facts += [f"clip {self.bad} is bad"] if self.bad is not None else []
            facts += ["webhook"] if self.webhook else []
            facts += ["evidence"] if self.evidence else []
            facts += [f"in stages, {self.stages}"] if self.stages != "none" else []
            facts += [f"owner {self.owner!r}"] if self.owner else []
            return f"{what} {', '.join(facts)}"
        if self.kind in ("stream", "batch"):
            parts = "windows" if self.kind == "stream" else "lines"
            return f"{what} of {self.clips} {parts}{', webhook' if self.webhook else ''}"
        return (
            f"{what} of request {self.target}"
            if self.kind in ("delete", "status", "replay", "drop", "stream_end", "batch_cancel")
            else what
        )


@dataclass(frozen=True)
class Fault:
    """What goes wrong at the `at`-th command of a request or of a process."""

    target: str
    """`r3` is request 3, `w0` worker 0, `w0+` what it does beside its work, `a1` what API 1 does beside requests"""
    at: int
    kind: FaultKind
    amount: float = 0.0

    def __str__(self) -> str:
        amount = f" {self.amount:g}" if self.amount else ""
        return f"command {self.at} of {self.target}: {self.kind}{amount}"


@dataclass(frozen=True)
class Plan:
    """All that a schedule is made of."""

    seed: int
    ops: tuple[Op, ...]
    faults: tuple[Fault, ...]
    shuffled: bool = True
    """whether the next step is anybody's, as the seed has it; else who has waited longest goes on"""
    unattended: bool = False
    """whether all workers die for good after a while"""
    in_flight: int = 1
    """batches that each worker has in flight at most"""
    partitions: int = 1
    """of the queue"""
    masking: Masking = "all"
    """which workers can leave frames out of clips; the others are of an earlier release"""

    def masks(self, worker: int, life: int) -> bool:
        """Whether a worker can leave frames out: those that are replaced may be of another release."""
        return {"all": True, "one": worker == 0, "updated": worker == 0 or life > 0, "rolled_back": life == 0}[
            self.masking
        ]

    def steps(self) -> list[Op | Fault]:
        """Requests and faults."""
        return [*self.ops, *self.faults]

    def only(self, steps: list[Op | Fault]) -> Plan:
        """The plan with some of its steps."""
        return replace(
            self,
            ops=tuple(step for step in steps if isinstance(step, Op)),
            faults=tuple(step for step in steps if isinstance(step, Fault)),
        )


def plan_of(seed: int) -> Plan:
    """The plan of a seed."""
    random = Random(seed)
    ops = _in_stages(_ops(random), Random(-1 - seed))
    # From a source of its own: what else happens in a schedule stays as it was.
    aside = Random(seed ^ 0xE51DE)
    ops = _with_batches(_with_streams(_with_evidence(ops, aside), aside), aside)
    masking: tuple[Masking, ...] = ("all", "all", "all", "one", "updated", "rolled_back")
    return Plan(
        seed=seed,
        ops=tuple(ops),
        faults=tuple([*_with_stops(_faults(random, ops), aside), *_beside_requests(ops, aside)]),
        shuffled=random.random() < 0.7,
        unattended=random.random() < 0.1,
        in_flight=random.choice((1, 1, 2, 4)),
        partitions=random.choice((1, 1, 1, 1, 1, 2)),
        masking=aside.choice(masking),
    )


def _ops(random: Random) -> list[Op]:
    ops: list[Op] = []
    uploads: list[int] = []
    at = 0.0
    for number in range(random.randint(3, 9)):
        at += random.choice((0.0, 0.0, 0.05, 0.3, 1.5))
        api = random.randrange(APIS)
        if not uploads or random.random() < 0.5:
            uploads.append(number)
            clips = random.choice((1, 1, 2, 3))
            ops.append(
                Op(
                    number,
                    "upload",
                    at,
                    api,
                    owner=random.choice(OWNERS),
                    key=random.choice((None, "K", "K", "L")),
                    clips=clips,
                    bad=random.randrange(clips) if random.random() < 0.3 else None,
                    body=random.randrange(3),
                    deadline_s=random.choice((8.0, 8.0, 8.0, 1.0)),
                    webhook=random.random() < 0.4,
                    asynchronous=random.random() < 0.7,
                    upload_s=random.choice((0.0, 0.1, 0.1, 2.0)),
                )
            )
        else:
            kind: Kind = random.choice(("delete", "delete", "status", "replay", "replay", "drop", "list"))
            target = random.choice(uploads)
            # Clients repeat what they were not answered, also much later.
            again = [op for op in ops if op.kind == "delete"]
            if again and random.random() < 0.3:
                kind, target = "delete", again[0].target
            ops.append(Op(number, kind, at, api, target=target))
    return ops


def _in_stages(ops: list[Op], random: Random) -> list[Op]:
    kinds: tuple[Stages, ...] = ("none", "all", "all", "broken")
    return [
        replace(op, stages=random.choice(kinds)) if op.kind == "upload" and op.clips > 1 and not op.asynchronous else op
        for op in ops
    ]


def _with_evidence(ops: list[Op], random: Random) -> list[Op]:
    """Some uploads ask for evidence, of two clips at most: each is scored four times."""
    if random.random() < 0.4:
        return ops
    found = []
    for op in ops:
        if op.kind == "upload" and random.random() < 0.4:
            clips = min(op.clips, 2)
            bad = None if op.bad is None else min(op.bad, clips - 1)
            found.append(replace(op, evidence=True, clips=clips, bad=bad, stages="none"))
        elif op.kind in ("status", "list") and random.random() < 0.5:
            found.append(replace(op, kind="room"))
        else:
            found.append(op)
    return found


def _with_streams(ops: list[Op], random: Random) -> list[Op]:
    """A schedule in six has live streams; somebody may end one, or try to."""

    def stream(number: int) -> Op:
        return Op(
            number,
            "stream",
            random.choice((0.0, 0.3, 1.5)),
            random.randrange(APIS),
            owner=random.choice(OWNERS),
            clips=random.choice((1, 4, 8)),
            webhook=random.random() < 0.7,
        )

    if random.random() > 1 / 6:
        return ops
    return _with_some(ops, random, stream, (1, 2), "stream_end", (1.0, 2.0, 4.0))


def _with_batches(ops: list[Op], random: Random) -> list[Op]:
    """A schedule in eight has batches; somebody may cancel one."""

    def batch(number: int) -> Op:
        return Op(
            number,
            "batch",
            random.choice((0.0, 0.3, 1.5)),
            random.randrange(APIS),
            clips=random.choice((1, 2, 4)),
            webhook=random.random() < 0.5,
        )

    if random.random() > 1 / 8:
        return ops
    return _with_some(ops, random, batch, (1, 1, 2, 3), "batch_cancel", (0.5, 2.0, 4.0))


def _with_some(
    ops: list[Op],
    random: Random,
    begun: Callable[[int], Op],
    counts: Sequence[int],
    ending: Kind,
    times: Sequence[float],
) -> list[Op]:
    """With one of `counts` operations more, of which the first may be ended at one of `times`."""
    some = [begun(len(ops) + number) for number in range(random.choice(counts))]
    found = [*ops, *some]
    if random.random() < 0.4:
        at = random.choice(times)
        found.append(Op(len(found), ending, at, random.randrange(APIS), target=some[0].number))
    return found


def _beside_requests(ops: list[Op], random: Random) -> list[Fault]:
    """Faults of the processes that tell of live streams and drive batches."""
    if all(op.kind not in ("stream", "batch") for op in ops):
        return []
    amounts: dict[FaultKind, float] = {
        "lost_reply": 0.0,
        "refused": 0.0,
        "crash": 1.0,
        "stall": 1.5 * LEASE_S,
        "away": 1.0,
        "hold": 6.0,
    }
    kinds: tuple[FaultKind, ...] = ("lost_reply", "lost_reply", "refused", "crash", "stall", "away", "hold")
    drawn = [random.choice(kinds) for _ in range(random.choice((0, 4, 8)))]
    return [Fault(f"a{random.randrange(APIS)}", random.randrange(80), kind, amounts[kind]) for kind in drawn]


def _with_stops(faults: list[Fault], random: Random) -> list[Fault]:
    """Some workers are told to end instead, as in an update."""
    return [
        replace(fault, kind="stop", amount=0.0) if fault.target[0] == "w" and random.random() < 0.1 else fault
        for fault in faults
    ]


def _faults(random: Random, ops: list[Op]) -> list[Fault]:
    faults = []
    for _ in range(random.choice((0, 2, 5, 10, 15))):
        place = random.random()
        if place < 0.5:
            target, last = f"r{random.choice(ops).number}", 14
        elif place < 0.85:
            target, last = f"w{random.randrange(WORKERS)}", 40
        else:
            target, last = random.choice([f"w{n}+" for n in range(WORKERS)] + [f"a{n}" for n in range(APIS)]), 30
        kind = random.choice(BEFORE)
        amount = {
            "hold": float(random.randint(1, 12)),
            "stall": random.choice((0.5, LEASE_S / 2, 1.5 * LEASE_S, 4 * LEASE_S)),
            "jump": random.choice((-3600.0, 3600.0)),
            "cut_short": float(random.randint(1, 3)),
            "crash": float(random.randint(0, 1)),
            "away": random.choice((0.3, 1.0, 4.0)),
        }.get(kind, 0.0)
        faults.append(Fault(target, random.randrange(last), kind, amount))
    return faults
