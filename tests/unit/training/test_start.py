"""Where a run's first weights come from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from service.model.weights.native import save_weights
from service.training.config import read_config
from service.training.start import make_network

FILE = """
[network]
height = 16
width = 16
frames = {frames}
patch = 8
depth = 1
heads = 2
dim = 8
mlp_dim = 8
{start}
[data]
kind = "folder"
videos = "v"
[recipe]
steps = 1
"""


def config_file(folder: Path, start: str, frames: int = 4) -> Path:
    path = folder / "run.toml"
    path.write_text(FILE.format(start=start, frames=frames))
    return path


def test_a_run_starts_from_video_weights_beside_its_file(tmp_path: Path) -> None:
    source = make_network(read_config(config_file(tmp_path, "")), 5)
    save_weights(source, tmp_path / "weights.safetensors")
    settings = read_config(config_file(tmp_path, 'start = { video = "weights.safetensors" }', frames=8))
    network = make_network(settings, 3)
    assert torch.equal(network.state_dict()["cls_t"], source.state_dict()["cls_t"])
    assert network.state_dict()["cls_s"].shape[0] == 8


@pytest.mark.parametrize("start", ["'elsewhere'", "{ sound = 'a' }", "{ video = 'a', image = 'b' }"])
def test_a_start_that_is_not_known_is_refused(start: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="start must"):
        make_network(read_config(config_file(tmp_path, f"start = {start}")), 2)
