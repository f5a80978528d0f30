"""Who goes on at each Redis command, and what goes wrong there."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from random import Random
from typing import Any

from redis.exceptions import ConnectionError

from tests.simulation.plan import Fault, Plan
from tests.simulation.server import Command, Server, packed

BACKGROUND = frozenset({"heartbeat", "upkeep", "leases", "admission", "webhooks", "overdue"})
MOST_STEPS = 20_000


class Stuck(Exception):
    """Nothing can go on, or things go on for ever."""


class Torn(BaseException):
    """The simulation is over; whoever still runs ends here, without cleaning up."""


@dataclass
class Process:
    """An API process or a worker process: it has a clock of its own and dies as a whole."""

    name: str
    skew_s: float = 0.0
    dead: bool = False
    died: asyncio.Event = field(default_factory=asyncio.Event)
    stop: Callable[[], None] | None = None
    """how it is told to end what it has begun, and nothing more"""

    def die(self) -> None:
        """kill -9."""
        self.dead = True
        self.died.set()


request: ContextVar[str] = ContextVar("request", default="")
"""Name of the request that the current task belongs to; empty outside of requests."""


@dataclass
class _Waiting:
    turn: asyncio.Future[None]
    holds: int


class Scheduler:
    """Serialises the commands of all processes."""

    def __init__(self, plan: Plan, server: Server, streams: Sequence[str]) -> None:
        """Who waits for entries is woken when the `streams` grow, or a list that is waited for."""
        self._server = server
        self._looks = {stream: packed(("XLEN", stream)) for stream in streams}
        self._entries = 0
        self._random = Random(plan.seed ^ 0x5EED) if plan.shuffled else None
        self._faults: defaultdict[tuple[str, int], list[Fault]] = defaultdict(list)
        for fault in plan.faults:
            self._faults[fault.target, fault.at].append(fault)
        self._counts: Counter[str] = Counter()
        self._waiting: list[_Waiting] = []
        self._arrived = asyncio.Event()
        self._steps = 0
        self._away_until: dict[int, float] = {}
        """seconds of the simulation until which a partition cannot be reached, by its number"""
        self.calm = False
        """whether nothing goes wrong any more"""
        self.torn = False
        self.injected: Counter[str] = Counter()
        self.trace: list[str] = []
        self._called: set[str] = set()

    def scripts(self) -> frozenset[str]:
        """Names of the scripts that were called."""
        return self._server.names(self._called)

    # --- order ---

    def idle(self, timeout: float | None) -> float:
        """Let one task go on; where none waits for Redis, let time pass to the next timer. Raises Stuck."""
        # From here it ends the simulation. A worker would take it for the fault of one batch and go on.
        if self._steps >= MOST_STEPS:
            raise Stuck(f"{MOST_STEPS} steps and no end")
        if not self._waiting:
            if timeout is None:
                raise Stuck("nothing can go on")
            return timeout
        free = [waiting for waiting in self._waiting if waiting.holds == 0] or self._waiting
        chosen = free[0] if self._random is None else self._random.choice(free)
        for waiting in self._waiting:
            waiting.holds = max(0, waiting.holds - 1)
        self._waiting.remove(chosen)
        if not chosen.turn.done():
            chosen.turn.set_result(None)
        return 0.0

    async def _turn(self, process: Process, holds: int = 0) -> None:
        if self.torn:
            raise Torn
        turn = asyncio.get_running_loop().create_future()
        if not process.dead:
            self._waiting.append(_Waiting(turn, holds))
        await turn
        if process.dead:
            await asyncio.get_running_loop().create_future()

    def tear_down(self) -> None:
        """Whoever still waits for Redis is to be cancelled now."""
        self.torn = True
        self._waiting.clear()

    # --- commands ---

    async def step(self, process: Process, partition: int, commands: Sequence[Command]) -> list[Any]:
        """Carry out commands that were sent together to a partition, when it is their turn. Raises ConnectionError."""
        if self.torn:
            raise Torn
        faults = self._due(process)
        holds, after = 0, list[Fault]()
        for fault in faults:
            match fault.kind:
                case "hold":
                    self._count(fault)
                    holds += int(fault.amount)
                case "stall":
                    self._count(fault)
                    await asyncio.sleep(fault.amount)
                case "jump":
                    self._count(fault)
                    process.skew_s += fault.amount
                case "stop":
                    self._count(fault)
                    if process.stop is not None:
                        process.stop()
                case "away":
                    self._count(fault)
                    self._away_until[partition] = asyncio.get_running_loop().time() + fault.amount
                case _:
                    after.append(fault)
        if b"BLOCK" in commands[0] or commands[0][0] == "BLPOP":
            return await self._blocking(process, partition, commands[0], after, holds)
        await self._turn(process, holds)
        self._reached(partition)
        return await self._carried_out(process, commands, after)

    def _reached(self, partition: int) -> None:
        if not self.calm and asyncio.get_running_loop().time() < self._away_until.get(partition, 0.0):
            raise ConnectionError("the partition cannot be reached")

    def _due(self, process: Process) -> list[Fault]:
        task = asyncio.current_task()
        beside = task is not None and task.get_name() in BACKGROUND
        target = request.get() or process.name
        if beside and process.name.startswith("w"):
            target += "+"
        number = self._counts[target]
        self._counts[target] += 1
        return [] if self.calm else self._faults.get((target, number), [])

    def _count(self, fault: Fault) -> None:
        self.injected[fault.kind] += 1
        self.trace.append(f"{asyncio.get_running_loop().time():.3f} {fault}")

    async def _carried_out(self, process: Process, commands: Sequence[Command], faults: Sequence[Fault]) -> list[Any]:
        kinds = {fault.kind: fault for fault in faults}
        for fault in faults:
            if fault.kind != "cut_short" or len(commands) > 1:
                self._count(fault)
        if (crash := kinds.get("crash")) and not crash.amount:
            await self._die(process)
        if "refused" in kinds:
            raise ConnectionError("the connection is gone before the command was sent")
        if "forgotten" in kinds:
            self._server.forget_scripts()
        if "leave" in kinds and request.get():
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        cut = kinds.get("cut_short")
        if cut is not None and len(commands) > 1 and commands[0][0] != "MULTI":
            self._execute(process, commands[: int(cut.amount)])
            raise ConnectionError("the connection is gone in the middle of the commands")
        if "full" in kinds:
            with self._server.full():
                replies = self._execute(process, commands)
        else:
            replies = self._execute(process, commands)
        if crash:
            await self._die(process)
        if "lost_reply" in kinds:
            raise ConnectionError("the connection is gone before the reply came")
        return replies

    async def _blocking(
        self, process: Process, partition: int, command: Command, faults: Sequence[Fault], holds: int
    ) -> list[Any]:
        at_once, block_s, lists = _without_waiting(command)
        self._looks |= {name: packed(("LLEN", name)) for name in lists if name not in self._looks}
        end = asyncio.get_running_loop().time() + block_s
        while True:
            await self._turn(process, holds)
            self._reached(partition)
            replies = await self._carried_out(process, [at_once], faults)
            left_s = end - asyncio.get_running_loop().time()
            if replies[0] is not None or left_s <= 0:
                return replies
            faults, holds = (), 0
            try:
                async with asyncio.timeout(left_s):
                    await self._arrived.wait()
            except TimeoutError:
                return replies

    def _execute(self, process: Process, commands: Sequence[Command]) -> list[Any]:
        self._steps += 1
        now = asyncio.get_running_loop().time()
        first = self._server.pass_time(now)
        replies = self._server.send([*first, *commands, *self._looks.values()])[len(first) :]
        replies, seen = replies[: len(commands)], replies[len(commands) :]
        self._called |= {command[1] for command in commands if command[0] == "EVALSHA"}
        names = " ".join(str(command[0]) for command in commands)
        self.trace.append(f"{now:.3f} {process.name} {request.get()} {names} {_brief(replies)}")
        # Commands of the simulation itself travel with those of the service: one round trip instead of three.
        if sum(seen) > self._entries:
            self._arrived.set()
            self._arrived = asyncio.Event()
        self._entries = sum(seen)
        return replies

    async def _die(self, process: Process) -> None:
        process.die()
        await asyncio.get_running_loop().create_future()


def _without_waiting(command: Command) -> tuple[Command, float, Command]:
    """The command that answers at once, how long it is to wait, in seconds, and the lists for which it waits."""
    if command[0] == "BLPOP":
        _, *lists, block_s = command
        return ("LPOP", *lists), float(block_s), tuple(lists)
    at = command.index(b"BLOCK")
    return (*command[:at], *command[at + 2 :]), float(command[at + 1]) / 1000, ()


def _brief(replies: Sequence[Any]) -> str:
    return " ".join(type(reply).__name__ if isinstance(reply, Exception) else repr(reply)[:60] for reply in replies)
