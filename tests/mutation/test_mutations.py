"""Every script of Redis with one line less: a test of the queue fails, or the mutant is listed with its reason."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.local.redis import LocalRedis
from service.queue.connection import connect
from tests.mutation.mutants import mutants
from tests.mutation.run import ROOT, sample
from tests.mutation.scripts import pieces, scripts
from tests.mutation.survivors import accepted

MUTANTS = os.environ.get("VIDTR_MUTANTS", "16")
KILLED = 0.95


def test_every_line_of_every_script_is_in_one_piece() -> None:
    for script in scripts():
        parts = [piece.text for piece in pieces() if script in piece.scripts]
        lines = [line for part in parts for line in part.split("\n") if line]
        assert sorted(lines) == sorted(line for line in script.text.split("\n") if line)


def test_every_mutant_changes_its_scripts_and_has_a_name_of_its_own() -> None:
    found = mutants()
    assert len({mutant.id for mutant in found}) == len(found)
    assert all(script.text != text for mutant in found for script, text in mutant.scripts())


async def test_every_mutant_is_lua_that_compiles(redis_server: LocalRedis) -> None:
    """Otherwise it would be killed for its syntax, and say nothing of the tests."""
    client = connect(redis_server.url, name="mutants")
    try:
        for mutant in mutants():
            for _, text in mutant.scripts():
                await client.script_load(text)
    finally:
        await client.aclose()


def test_every_mutant_has_its_day() -> None:
    found = mutants()
    assert {str(mutant) for day in range(len(found) // 20 + 1) for mutant in sample(found, 20, day)} == set(
        map(str, found)
    )


def test_every_survivor_that_is_listed_exists_and_has_a_reason() -> None:
    listed = accepted()
    assert set(listed) <= {mutant.id for mutant in mutants()}
    assert all(listed.values())
    assert len(listed) <= (1 - KILLED) * len(mutants())


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_no_line_of_a_script_can_be_taken_out_unnoticed(tmp_path: Path) -> None:
    whole = MUTANTS == "all"
    part = [] if whole else ["--part", MUTANTS]
    report = tmp_path / "verdicts.json"
    command = [sys.executable, "-m", "tests.mutation.run", "--json", str(report), *part]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    verdicts = json.loads(report.read_text())
    survivors = {tuple(one["mutant"]) for one in verdicts if one["killer"] is None}
    killed = 1 - len(survivors) / len(verdicts)
    print(f"\n{len(verdicts)} mutants, {killed:.1%} killed, {len(survivors)} survived")
    if whole:
        assert survivors == set(accepted())
        assert killed >= KILLED
    else:
        assert not survivors
