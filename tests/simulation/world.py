"""One schedule from beginning to end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
from collections import Counter
from collections.abc import Coroutine, Iterator, MutableMapping
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any
from unittest import mock
from uuid import UUID

import structlog

from service.api.webhook_message import Problem
from service.queue.partitions import QueueAddress
from service.queue.stream_webhooks import StreamDelivery
from service.queue.webhook_queue import WebhookDelivery
from tests.simulation import rest
from tests.simulation.client import send
from tests.simulation.clock import virtual
from tests.simulation.ledger import Ledger
from tests.simulation.plan import APIS, WORKERS, Plan
from tests.simulation.processes import UPKEEP_S, Api, WorkerProcess, begin
from tests.simulation.releases import mixed
from tests.simulation.scheduler import Process, Scheduler, Stuck, Torn
from tests.simulation.server import Server
from tests.virtual_loop import VirtualLoop

RESTART_S = 1.0
UNATTENDED_AT_S = 2.0
REST_S = 60.0
TELL_S = 0.1
TICK_S = 1e-9
# Small enough that every way a clip can take is taken by clips of a few hundred bytes.
SMALL_BYTES = 500


@dataclass(frozen=True)
class Outcome:
    """What came of one schedule."""

    violations: tuple[str, ...]
    trace: tuple[str, ...]
    injected: dict[str, int]
    ends: dict[str, int]
    """how many jobs ended in each way"""
    scripts: frozenset[str]
    """names of the scripts that were called"""


class World:
    """Processes, clients and a Redis, and what is known of them."""

    def __init__(self, plan: Plan, server: Server) -> None:
        self.plan = plan
        self.server = server
        self.ledger = Ledger()
        self.keys = QueueAddress("unix:///simulated", "sim", plan.partitions).key_names()
        self.scheduler = Scheduler(plan, server, rest.streams(self.keys))
        self.loop = VirtualLoop(self.scheduler.idle, TICK_S)
        # Whoever is killed leaves things open; what a task raises is looked at in the end.
        self.loop.set_exception_handler(lambda loop, context: None)
        self.ids = Random(plan.seed ^ 0x1D5)
        self.tasks: list[asyncio.Task[Any]] = []
        self.ends: Counter[str] = Counter()
        self.mended: list[bool] = []
        """not empty once the backend can score every clip"""
        self.apis: list[Api] = []
        self.workers: list[WorkerProcess] = []
        self.lives = count()
        """of API processes, numbered"""

    def begin(self, process: Process, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run `work` as a task of a process."""
        begin(self, process, work, name)

    def note(self, what: str) -> None:
        """Something that helps to read a trace."""
        self.scheduler.trace.append(f"{self.loop.now:.3f}   {what}")

    def run(self) -> Outcome:
        """Carry out the plan and look at what is left."""
        self.server.begin()
        _exceptions.clear()
        told = mock.patch("service.api.webhook_sender.send", self._told)
        ids = mock.patch("service.queue.partitions.uuid4", self._id)
        with virtual(self.loop, self.plan.seed), _small(), mixed(), told, ids:
            try:
                self.loop.run_until_complete(self._main())
            except Stuck as stuck:
                self.ledger.violated(str(stuck))
            finally:
                self._end()
        for exception in _exceptions:
            self.ledger.violated(exception)
        return Outcome(
            tuple(self.ledger.wrong),
            tuple(self.scheduler.trace),
            dict(self.scheduler.injected),
            dict(self.ends),
            self.scheduler.scripts(),
        )

    async def _main(self) -> None:
        self.apis = [Api(self, number) for number in range(APIS)]
        self.workers = [WorkerProcess(self, number, 0) for number in range(WORKERS)]
        watching = [self.loop.create_task(self._restart(number)) for number in range(WORKERS)]
        watching += [self.loop.create_task(self._restart_api(number)) for number in range(APIS)]
        self.tasks += watching
        await asyncio.sleep(0.5)
        clients = [self.loop.create_task(send(self, op)) for op in self.plan.ops]
        self.tasks += clients
        if self.plan.unattended:
            await asyncio.sleep(UNATTENDED_AT_S)
            for watch in watching[:WORKERS]:
                watch.cancel()
            for worker in self.workers:
                worker.process.die()
        if clients:
            await asyncio.wait(clients)
        for client in clients:
            client.result()
        self.scheduler.calm = True
        # Who was killed last is up again before anything is asked of it.
        await asyncio.sleep(2 * RESTART_S)
        await self._settle()
        rest.check(self)
        self.ends = rest.ends(self)
        if not self.plan.unattended:
            await self._replay_all()
        await rest.check_claims(self)
        rest.check_end_of_lives(self)

    async def _settle(self) -> None:
        """Until nothing is left to do, or it has gone on for too long."""
        end = self.loop.now + REST_S
        while rest.busy(self) and self.loop.now < end:  # noqa: ASYNC110 - Redis tells of no rest
            await asyncio.sleep(1.0)

    async def _replay_all(self) -> None:
        self.mended.append(True)
        replayed = await rest.replay_all(self)
        await self._settle()
        rest.check(self)
        rest.check_replayed(self, replayed)

    async def _restart(self, number: int) -> None:
        life = 0
        while True:
            await self.workers[number].process.died.wait()
            await asyncio.sleep(RESTART_S)
            life += 1
            self.workers[number] = WorkerProcess(self, number, life)

    async def _restart_api(self, number: int) -> None:
        while True:
            await self.apis[number].process.died.wait()
            await asyncio.sleep(RESTART_S)
            self.apis[number] = Api(self, number)

    def _id(self) -> UUID:
        return UUID(bytes=self.ids.randbytes(16), version=4)

    async def _told(self, delivery: WebhookDelivery | StreamDelivery, *_: object) -> Problem | None:
        """What the target of a webhook makes of it: some answer with errors at first."""
        await asyncio.sleep(TELL_S)
        if isinstance(delivery, StreamDelivery):
            # One event in three is refused once: those after it wait.
            if (delivery.sequence + self.plan.seed) % 3 == 0 and delivery.attempts == 1:
                return Problem("status 500")
            self.ledger.streams[delivery.job_id].heard.append(delivery.event_id)
            return None
        if (int(delivery.job_id[3:7], 16) + self.plan.seed) % 3 >= delivery.attempts:
            return Problem("status 500")
        self.ledger.heard[delivery.job_id].append((delivery.at, delivery.state))
        return None

    def _end(self) -> None:
        self.scheduler.tear_down()

        async def cancel_all() -> None:
            mine = asyncio.current_task()
            while left := [task for task in asyncio.all_tasks() if task is not mine]:
                for task in left:
                    task.cancel()
                for ended in await asyncio.gather(*left, return_exceptions=True):
                    if isinstance(ended, Exception) and not self.ledger.wrong:
                        self.ledger.violated(f"{type(ended).__name__}: {ended}")

        with contextlib.suppress(Torn, Stuck):
            self.loop.run_until_complete(cancel_all())
        for task in self.tasks:
            if task.done() and not task.cancelled():
                task.exception()
        self.loop.close()
        gc.collect(0)


@contextlib.contextmanager
def _small() -> Iterator[None]:
    with (
        mock.patch("service.queue.job_intake.TOGETHER_BYTES", SMALL_BYTES),
        mock.patch("service.queue.job_intake.PIPELINE_BYTES", SMALL_BYTES),
        mock.patch("service.queue.clip_stream.INLINE_BYTES", SMALL_BYTES),
        mock.patch("service.worker.upkeep.UPKEEP_S", UPKEEP_S),
        # One of the two workers follows.
        mock.patch("service.queue.lead.LEADERS", 1),
    ):
        yield


def quiet() -> None:
    """No log but of exceptions that nobody expected: they are violations."""
    structlog.configure(
        processors=[_unexpected],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        cache_logger_on_first_use=False,
    )


_exceptions: list[str] = []


def _unexpected(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    error = sys.exc_info()[1]
    _exceptions.append(f"{event['event']}: {type(error).__name__}: {str(error)[:200]}")
    raise structlog.DropEvent


def simulate(plan: Plan, server: Server) -> Outcome:
    """Carry out one plan."""
    return World(plan, server).run()
