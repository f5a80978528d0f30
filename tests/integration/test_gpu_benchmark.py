"""The script that measures a GPU, as far as a CPU can run it: the same code, with a tiny network."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import LARGEST_DRIFT, broken


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_part_of_the_script_runs_and_its_precisions_agree(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--small", "--json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(path.read_text())["figures"]
    assert {len(figures[part]) for part in ("parity", "engine")} == {8}
    assert figures["parity"]["fp32, rgb"]["largest_drift"] == 0
    assert all(one["clips_per_s"] > 0 for one in figures["engine"].values())
    assert set(figures["service"]) == {
        f"{clip_format}, {in_flight} in flight" for clip_format in ("rgb", "yuv420") for in_flight in (1, 4)
    }
    assert all(one["clips_per_s"] > 0 and 1 <= one["mean_batch"] <= 4 for one in figures["service"].values())
    assert figures["decoding"]["by plan on one core"]["clips_per_s"] > 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_parts_that_begin_after_the_budget_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--small", "--budget-s", "-1"]
    done = subprocess.run([*command, "--json", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(path.read_text())["figures"]
    assert {figures[part] for part in ("parity", "engine", "service", "decoding")} == {
        "left out: the budget was used up"
    }


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_script_says_how_to_check_itself() -> None:
    done = subprocess.run([sys.executable, "-m", "benchmarks.gpu"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no GPU here; --device cpu --small checks the script itself" in done.stderr


def test_a_precision_that_computes_something_else_fails_the_script() -> None:
    parity = {"bf16, rgb": {"largest_drift": LARGEST_DRIFT / 2}, "fp16, rgb": {"largest_drift": 2 * LARGEST_DRIFT}}
    assert broken({"parity": parity}) == ["fp16, rgb"]
    assert broken({"parity": "left out"}) == []
