"""Tests against mutants: collected and run once as they are, then again in one forked process for each mutant."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from redis.commands.core import AsyncScript

from service.queue import scripts
from tests.mutation.mutants import Mutant

LANES = 4
"""mutants at a time: tests wait more than they compute"""
PATIENCE_S = 8.0
"""beyond ten times what a test took without the mutant, it is taken to hang"""


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant; `killer` is the test that failed, None where all passed."""

    mutant: Mutant
    killer: str | None


@dataclass(frozen=True)
class _Lane:
    """A forked process that runs `tests`; `hung` is the one that an earlier process for the same ended in."""

    mutant: Mutant | None
    tests: list[pytest.Item]
    reader: int
    hung: str


class Lanes:
    """A pytest plugin that runs the collected tests against mutants.

    Every test is run once with the scripts as they are: it has to pass, and tells which scripts it needs and how long
    it takes. A forked process then runs the tests that need a mutant's script, the quickest first, until one fails;
    that one has to fail, or to hang, twice, or a slow machine would pass for a killed mutant.
    """

    def __init__(self, mutants: Sequence[Mutant]) -> None:
        self.verdicts: list[Verdict] = []
        self.broken: list[str] = []
        """tests that fail without any mutant"""
        self._mutants = mutants
        self._uses: dict[str, set[str]] = defaultdict(set)
        self._took: dict[str, float] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = session.items
        for item in items:
            started = time.monotonic()
            with self._noted(item.nodeid):
                failed = _fails(item)
            self._took[item.nodeid] = time.monotonic() - started
            if failed:
                self.broken.append(item.nodeid)
        if not self.broken:
            self._run_all(sorted(items, key=lambda item: self._took[item.nodeid]))
        return True

    @contextlib.contextmanager
    def _noted(self, test: str) -> Iterator[None]:
        """Take down which scripts are called."""
        call = AsyncScript.__call__
        uses = self._uses

        async def noted(script: AsyncScript, *args: object, **options: object) -> object:
            uses[test].add(str(script.script))
            return await call(script, *args, **options)  # type: ignore[arg-type]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(AsyncScript, "__call__", noted)
            yield

    def _run_all(self, items: list[pytest.Item]) -> None:
        # Nothing of what the processes share is looked through, and so copied, by their garbage collectors.
        gc.freeze()
        running: dict[int, _Lane] = {}
        # One process has no mutant: where a test fails in it, it is not the mutants that tests fail by.
        for mutant in (None, *self._mutants):
            while len(running) >= LANES:
                self._reap(running)
            text = mutant.piece.text if mutant else ""
            chosen = [item for item in items if any(text in used for used in self._uses[item.nodeid])]
            self._fork(mutant, chosen, running)
        while running:
            self._reap(running)

    def _fork(self, mutant: Mutant | None, tests: list[pytest.Item], running: dict[int, _Lane], hung: str = "") -> None:
        reader, writer = os.pipe()
        if (pid := os.fork()) == 0:
            os.close(reader)
            self._child(mutant, tests, writer)
        os.close(writer)
        running[pid] = _Lane(mutant, tests, reader, hung)

    def _reap(self, running: dict[int, _Lane]) -> None:
        pid, status = os.wait()
        lane = running.pop(pid)
        with os.fdopen(lane.reader) as said:
            last = said.read().split("\n")[-1]
        # Without a mutant a test is blamed once it has failed in a second process too.
        if last != lane.hung and (os.WIFSIGNALED(status) or (status and lane.mutant is None)):
            left = next(number for number, item in enumerate(lane.tests) if item.nodeid == last)
            self._fork(lane.mutant, lane.tests[left:], running, hung=last)
        elif lane.mutant is not None:
            self.verdicts.append(Verdict(lane.mutant, last if status else None))
            print(f"{last if status else 'survived'} <- {lane.mutant}", file=sys.stderr, flush=True)
        elif status:
            self.broken.append(last)

    def _child(self, mutant: Mutant | None, tests: list[pytest.Item], writer: int) -> None:
        """Run tests until one fails, then end this process without tearing down what it shares with its parent."""
        if mutant:
            _replace(mutant)
        for item in tests:
            os.write(writer, f"\n{item.nodeid}".encode())
            if self._fails_in_time(item) and self._fails_in_time(item):
                os._exit(1)
        os._exit(0)

    def _fails_in_time(self, item: pytest.Item) -> bool:
        # A test that hangs ends its process.
        signal.setitimer(signal.ITIMER_REAL, PATIENCE_S + 10 * self._took[item.nodeid])
        failed = _fails(item)
        signal.setitimer(signal.ITIMER_REAL, 0)
        return failed


def _replace(mutant: Mutant) -> None:
    """From now on this process reads the mutant in the place of its file."""
    source = scripts.source

    def mutated(name: str) -> str:
        return mutant.text if name == mutant.piece.name else source(name)

    scripts.source = mutated
    scripts.load.cache_clear()


@dataclass(frozen=True)
class _SomethingElse:
    """Stands for the next test, of which nothing is known: all is torn down but what the session has set up."""

    session: pytest.Session

    def listchain(self) -> list[pytest.Session]:
        return [self.session]


def _fails(item: pytest.Item) -> bool:
    following: Any = _SomethingElse(item.session)
    return any(report.failed for report in runtestprotocol(item, log=False, nextitem=following))
