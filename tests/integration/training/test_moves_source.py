"""Generated camera moves as a source of batches, and one step of training on them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from service.model.config import VidTrConfig
from service.model.preprocess import Normalize
from service.model.presets import CAMERA_MOVE_LABELS
from service.model.vidtr import VidTr
from service.training.camera_motion.flow import CameraFlowReader
from service.training.camera_motion.living import HEIGHT, WIDTH, Living
from service.training.config import MovesData, Recipe, read_config
from service.training.evaluate import evaluate
from service.training.losses import examples_loss
from service.training.moves_source import GeneratedMoves
from service.training.start import clip_spec, make_network

CONFIG = Path(__file__).parents[3] / "configs" / "camera_moves.toml"
SIDE, CELLS = 16, 2


def source(folder: Path, *, renderers: int = 0, **fields: Any) -> GeneratedMoves:
    data = MovesData(
        kind="camera_moves",
        pictures=folder,
        held_out_pictures=folder,
        procedural=16,
        evaluation_clips=16,
        **fields,
    )
    return GeneratedMoves(data, 8, SIDE, CELLS, seed=1, renderers=renderers)


def test_parts_are_the_whole_batch_and_a_round_shows_the_same_clips_otherwise(tmp_path: Path) -> None:
    moves = source(tmp_path, reuse=2)
    whole = moves.batch(4, 0, 32, 32)
    parts = [source(tmp_path, reuse=2).batch(4, first, first + 16, 32) for first in (0, 16)]
    for ours, theirs in zip(whole, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(ours, torch.cat(theirs), equal_nan=True)
    same, other = moves.batch(5, 0, 32, 32), moves.batch(6, 0, 32, 32)
    levels = [clips.float().mean((1, 2, 3, 4)) for clips in (whole.clips, same.clips, other.clips)]
    torch.testing.assert_close(levels[0], levels[1])
    assert not torch.equal(whole.clips, same.clips)
    assert not torch.allclose(levels[0], levels[2])


def test_clips_that_other_processes_render_are_those_of_one_process(tmp_path: Path) -> None:
    alone, helped = source(tmp_path, reuse=2), source(tmp_path, reuse=2, renderers=2)
    for step in range(4):
        for ours, theirs in zip(helped.batch(step, 0, 32, 32), alone.batch(step, 0, 32, 32), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


KILLED = """
import os, signal, sys
from concurrent.futures import wait
from pathlib import Path
import psutil
from tests.integration.training.test_moves_source import source

if __name__ == "__main__":
    moves = source(Path(sys.argv[1]), renderers=2)
    moves.batch(0, 0, 16, 16)
    # A renderer that is busy ends anyway, when it cannot hand over what it has made.
    wait(moves._ahead._begun.values())
    children = [str(child.pid) for child in psutil.Process().children()]
    Path(sys.argv[1], "children").write_text(" ".join(children))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_renderers_end_with_a_training_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, script, tmp_path], cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    assert done.returncode == -signal.SIGKILL
    pids = [int(pid) for pid in (tmp_path / "children").read_text().split()]
    assert len(pids) >= 2
    children = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(children, timeout=30)
    for left in alive:
        left.kill()
    assert alive == []


def test_a_part_that_is_no_whole_grain_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"multiples of 16, not 0 \.\. 8"):
        source(tmp_path).batch(0, 0, 8, 8)


def test_scenes_of_another_length_are_refused(tmp_path: Path) -> None:
    Living(torch.zeros(1, 4, 3, HEIGHT, WIDTH, dtype=torch.uint8), torch.zeros(1, 2)).save(tmp_path / "scenes.pt")
    with pytest.raises(ValueError, match=r"scenes.pt have 4 frames, not 8"):
        source(tmp_path, scenes=tmp_path / "scenes.pt")


def test_a_step_learns_scores_motion_and_cuts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = VidTrConfig(
        height=SIDE, width=SIDE, frames=8, patch=8, depth=3, heads=2, dim=16, mlp_dim=32, classes=14, pooling=((2, 4),)
    )
    network = VidTr(config)
    trained = CameraFlowReader(network)
    examples = source(tmp_path).batch(0, 0, 48, 48)
    recipe = Recipe(steps=1, camera_flow=0.25, cut_attention=0.1)

    def loss(**fields: float) -> torch.Tensor:
        changed = recipe.model_copy(update=fields)
        return examples_loss(trained, Normalize(), examples, changed, True, torch.device("cpu"))

    whole = loss()
    whole.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained.readers.parameters())
    assert loss(camera_flow=0.0) < whole
    assert loss(cut_attention=0.0) < whole


def test_held_out_clips_are_scored_by_average_precision_and_cuts(tmp_path: Path) -> None:
    config = VidTrConfig(height=SIDE, width=SIDE, frames=8, patch=8, depth=1, heads=2, dim=16, mlp_dim=32, classes=14)
    data = source(tmp_path).held_out()
    found = evaluate(VidTr(config), data * 4, multi_label=True).figures
    assert 0 < found["mAP"] <= 1


def test_the_shipped_configuration_describes_a_model_with_independent_scores_of_the_whole_frame() -> None:
    config = read_config(CONFIG)
    spec = clip_spec(config)
    assert (spec.framing, config.activation) == ("whole", "sigmoid")
    network = make_network(config, len(CAMERA_MOVE_LABELS))
    assert sum(p.numel() for p in network.parameters()) * 4 < 10e6
