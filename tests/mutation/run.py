"""Mutants of the scripts against the tests of the queue: `python -m tests.mutation.run [--part N] [--only TEXT]`."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.mutation.lanes import Lanes
from tests.mutation.mutants import Mutant, mutants
from tests.mutation.survivors import accepted

ROOT = Path(__file__).parents[2]
INTEGRATION = "tests/integration"
TESTS = (
    "test_job_store.py",
    "test_races.py",
    "test_clip_stream.py",
    "test_capacity.py",
    "test_capacity_shares.py",
    "test_reservation_counts.py",
    "test_fleet_sums.py",
    "test_turns.py",
    "test_lead.py",
    "test_live_streams.py",
    "test_stream_webhooks.py",
    "test_dead_letters.py",
    "test_idempotency.py",
    "test_batch_store.py",
    "test_model_directory.py",
    "test_durability.py",
    "test_webhooks.py",
    "test_job_events.py",
    "test_job_list.py",
    "test_queue_defects.py",
    "test_unaccepted_clips.py",
    "test_staged_jobs.py",
    "test_result_bus.py",
    "test_result_cache.py",
    "worker",
)
"""tests in one process that run the scripts"""


def sample(found: Sequence[Mutant], count: int, day: int) -> list[Mutant]:
    """Those of one day: `count` mutants, others the next day, until all have had their turn."""
    order = sorted(found, key=lambda mutant: hashlib.sha256(str(mutant).encode()).digest())
    first = day * count % len(order)
    return (order + order)[first : first + min(count, len(order))]


def main() -> None:
    """The command line. Prints a line for each mutant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", type=int, help="so many mutants only, others every day, and no accepted survivors")
    parser.add_argument("--only", action="append", help="mutants whose name contains this text; may be repeated")
    parser.add_argument("--json", type=Path, help="where the verdicts are written")
    arguments = parser.parse_args()
    found = [mutant for mutant in mutants() if any(text in str(mutant) for text in arguments.only or [""])]
    if arguments.part is not None:
        known = accepted()
        unlisted = [mutant for mutant in found if mutant.id not in known]
        found = sample(unlisted, arguments.part, datetime.now(UTC).toordinal())
    lanes = Lanes(found)
    files = [f"{INTEGRATION}/{name}" for name in TESTS]
    os.chdir(ROOT)
    pytest.main(["-q", "-p", "no:cacheprovider", "--no-header", "--no-summary", "--tb=native", *files], plugins=[lanes])
    if lanes.broken:
        sys.exit(f"these tests fail without any mutant: {', '.join(lanes.broken)}")
    survived = sum(verdict.killer is None for verdict in lanes.verdicts)
    print(f"{len(found)} mutants, {survived} survived")
    if arguments.json:
        verdicts = [{"mutant": verdict.mutant.id, "killer": verdict.killer} for verdict in lanes.verdicts]
        arguments.json.write_text(json.dumps(verdicts))


if __name__ == "__main__":
    if os.environ.get("OMP_NUM_THREADS") == "1":
        main()
    else:
        # A process that has used several threads of PyTorch hangs once it is forked.
        again = [sys.executable, "-m", "tests.mutation.run", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, "OMP_NUM_THREADS": "1"})  # noqa: S606
