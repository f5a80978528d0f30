"""From a schedule that fails to a few of its steps that fail as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.simulation.plan import Fault, Op, Plan

Fails = Callable[[Plan], bool]
TRIES = 150


def shrunk(plan: Plan, fails: Fails) -> Plan:
    """The plan without the steps that it fails without as well, by delta debugging."""
    tries = 0

    def still(candidate: Plan) -> bool:
        nonlocal tries
        tries += 1
        return tries <= TRIES and fails(candidate)

    simplest: dict[str, Any] = {
        "unattended": False,
        "shuffled": False,
        "in_flight": 1,
        "partitions": 1,
        "masking": "all",
    }
    for name, value in simplest.items():
        candidate = replace(plan, **{name: value})
        if candidate != plan and still(candidate):
            plan = candidate
    steps = plan.steps()
    size = max(1, len(steps) // 2)
    while True:
        start = 0
        shorter = False
        while start < len(steps):
            rest: list[Op | Fault] = steps[:start] + steps[start + size :]
            if still(plan.only(rest)):
                steps, shorter = rest, True
            else:
                start += size
        if size > 1:
            size = max(1, size // 2)
        elif not shorter:
            return plan.only(steps)


def story(plan: Plan) -> str:
    """The steps of a plan for a person."""
    facts = [f"seed {plan.seed}"]
    facts += ["the next step is drawn" if plan.shuffled else "first come, first served"]
    facts += [f"{plan.in_flight} batches in flight"] if plan.in_flight > 1 else []
    facts += [f"{plan.partitions} partitions"] if plan.partitions > 1 else []
    facts += [f"frames can be left out by workers: {plan.masking}"] if plan.masking != "all" else []
    facts += ["all workers die for good"] if plan.unattended else []
    return "\n".join([", ".join(facts), *(f"  {step}" for step in plan.steps())])
