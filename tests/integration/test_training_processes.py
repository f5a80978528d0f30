"""Training as processes: killed and resumed, and two of them as one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from service.local.process import free_ports
from testing.videos import write_video
from tests.fixtures.extras import TRAINING

pytestmark = [pytest.mark.slow, TRAINING]

CONFIG = """
[network]
height = 16
width = 16
frames = 4
patch = 8
depth = 2
heads = 2
dim = 16
mlp_dim = 32
pooling = [[0, 2]]
dropout = 0.0

[data]
kind = "folder"
videos = "videos"
folds = 2
windows = 1

[recipe]
steps = {steps}
batch = 8
warmup = 2
ema = 0.9

[run]
accelerator = "cpu"
evaluate_every = 10
log_every = 1
"""

THREADS_AFTER = """
import json, os
from pathlib import Path
from service.cli.main import app
app({arguments}, standalone_mode=False)
names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
(Path({out!r}) / f"threads-{{os.environ['RANK']}}.json").write_text(json.dumps(names))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for label in ("one", "two"):
        for i in range(6):
            path = tmp_path / "videos" / label / f"{i}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path)
    return tmp_path


def command(project: Path, out: str, *, steps: int = 40, processes: int = 1) -> list[str]:
    config = project / "config.toml"
    config.write_text(CONFIG.format(steps=steps))
    task = ["-m", "service.cli.main", "train", str(config), "--out", str(project / out)]
    return [sys.executable, *(launcher(processes) if processes > 1 else []), *task]


def launcher(processes: int) -> list[str]:
    [port] = free_ports(1)
    return ["-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--master_port", str(port)]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def state(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "last.safetensors")


def test_a_run_killed_and_started_again_ends_as_if_never_killed(project: Path) -> None:
    subprocess.run(command(project, "whole"), check=True, env=environment(), timeout=200)
    killed = subprocess.Popen(command(project, "killed"), env=environment())
    until = time.monotonic() + 100
    while not (project / "killed" / "last.safetensors").exists() and time.monotonic() < until:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait(30) == -signal.SIGKILL
    subprocess.run(command(project, "killed"), check=True, env=environment(), timeout=200)
    whole, resumed = state(project / "whole"), state(project / "killed")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    last = [line for line in (project / "whole" / "log.csv").read_text().splitlines() if line.startswith("40,loss")]
    assert last == [
        line for line in (project / "killed" / "log.csv").read_text().splitlines() if line.startswith("40,loss")
    ]


def test_two_processes_train_as_one_does_with_the_same_batch(project: Path) -> None:
    for processes in (1, 2):
        # Plain descent: AdamW makes whole steps of rounding errors where the true gradient is zero.
        descent = ["--set", "recipe.name='paper'", "--set", "recipe.learning_rate=0.05"]
        run = [*command(project, str(processes), steps=10, processes=processes), *descent]
        subprocess.run(run, check=True, env=environment(), timeout=200)
    one, two = state(project / "1"), state(project / "2")
    assert max(float((one[k] - two[k]).abs().max()) for k in one if k.startswith("network.")) < 1e-4


def test_no_thread_talks_to_other_processes_after_training(project: Path) -> None:
    # Such a thread may want the interpreter while it shuts down, which aborts a run that had succeeded.
    out, script = project / "out", project / "train.py"
    _, _, _, *arguments = command(project, "out", steps=2)
    script.write_text(THREADS_AFTER.format(arguments=arguments, out=str(out)))
    subprocess.run([sys.executable, *launcher(2), str(script)], check=True, env=environment(), timeout=200)
    threads = [json.loads((out / f"threads-{rank}.json").read_text()) for rank in range(2)]
    assert [name for names in threads for name in names if "gloo" in name] == []
    assert all(threads)


def test_evaluation_writes_a_report_and_figures(project: Path) -> None:
    subprocess.run(command(project, "run", steps=10), check=True, env=environment(), timeout=200)
    evaluate = ["-m", "service.cli.main", "evaluate", str(project / "run")]
    subprocess.run([sys.executable, *evaluate, "--windows", "2", "--crops", "3"], check=True, timeout=200)
    assert '"top1"' in (project / "run" / "figures.json").read_text()
    page = (project / "run" / "report.html").read_text()
    assert "Confusion" in page
    assert "true one, predicted two" in page or "true two, predicted one" in page or "errors (0)" in page
