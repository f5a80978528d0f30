"""A finished run becomes a model that is served as it was evaluated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from service.cli.main import app
from service.evaluation.candidates import of_repository, of_run
from service.model.preprocess import Normalize, rgb_to_yuv420
from service.model.weights.native import save_weights
from service.model_config import parameters_of, read_config
from service.training.config import TrainConfig
from service.training.start import make_network

LABELS = ("goal", "foul", "throw-in")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Folder of a run whose weights are random, as a run that ended early leaves it."""
    config = TrainConfig.model_validate(
        {
            "network": {
                "height": 16, "width": 16, "frames": 4, "patch": 8, "depth": 2, "heads": 2, "dim": 16, "mlp_dim": 32,
                "pooling": [[0, 2]],
            },
            "data": {"kind": "folder", "videos": "videos"},
            "recipe": {"steps": 1},
            "run": {"frame_step": 3, "reference_fps": 25.0, "resize_short_side": 20},
        }
    )  # fmt: skip
    folder = tmp_path / "football"
    folder.mkdir()
    (folder / "config.json").write_text(config.model_dump_json())
    (folder / "labels.json").write_text(json.dumps(LABELS))
    save_weights(make_network(config, len(LABELS)), folder / "best.safetensors")
    return folder


def export(*arguments: object) -> tuple[int, str]:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["export", *map(str, arguments)])
    return result.exit_code, result.output


def test_a_run_is_served_as_its_folder_is_named_with_its_labels_and_preprocessing(run: Path, tmp_path: Path) -> None:
    code, output = export(run, "--repository", tmp_path / "models", "--description", "Matches of a season")
    assert code == 0, output
    written = parameters_of(read_config(tmp_path / "models" / "football" / "config.pbtxt"))
    asked = {"trained": "true", "frame_step": "3", "reference_fps": "25", "resize_short_side": "20"}
    assert {key: written[key] for key in asked} == asked
    assert json.loads(written["labels"]) == list(LABELS)
    assert written["description"] == "Matches of a season"


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated:DeprecationWarning")
def test_the_served_weights_are_those_of_the_best_evaluation(run: Path, tmp_path: Path) -> None:
    code, output = export(run, "--repository", tmp_path / "models", "--name", "other", "--version", 2)
    assert code == 0, output
    served = torch.jit.load(tmp_path / "models" / "other" / "2" / "model.pt")
    settings = TrainConfig.model_validate_json((run / "config.json").read_text())
    network = make_network(settings, len(LABELS)).eval()
    clips = torch.randint(0, 256, (2, 4, 16, 16, 3), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(served(clips)[0], network(Normalize()(clips)).logits, atol=1e-5, rtol=0)


def test_a_run_is_exported_when_the_file_that_it_began_from_is_gone(run: Path, tmp_path: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    config["network"]["start"] = {"video": str(tmp_path / "gone.safetensors")}
    (run / "config.json").write_text(json.dumps(config))
    code, output = export(run, "--repository", tmp_path / "models")
    assert code == 0, output


def test_a_run_without_weights_is_refused(run: Path, tmp_path: Path) -> None:
    (run / "best.safetensors").unlink()
    code, output = export(run, "--repository", tmp_path / "models")
    assert code == 2
    assert "best.safetensors" in output


def test_a_preset_takes_no_name(tmp_path: Path) -> None:
    code, output = export("untrained_tiny", "--repository", tmp_path, "--name", "mine")
    assert code == 2
    assert "belong to a run" in output


def test_a_model_that_takes_420_says_how_far_its_answers_move(run: Path, tmp_path: Path) -> None:
    code, output = export(run, "--repository", tmp_path / "models", "--clip-format", "yuv420")
    assert code == 0, output
    folder = tmp_path / "models" / "football"
    assert parameters_of(read_config(folder / "config.pbtxt"))["clip_format"] == "yuv420"
    drift = json.loads((folder / "1" / "clip_format_drift.json").read_text())
    assert drift["clips"] == 8
    assert 0 < drift["mean"] < drift["largest"] < drift["span"]
    assert f"{drift['same_label']} of 8 generated clips keep their best label" in output


def test_a_run_that_was_trained_on_420_is_served_so(run: Path, tmp_path: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    config["run"]["clip_format"] = "yuv420"
    (run / "config.json").write_text(json.dumps(config))
    code, output = export(run, "--repository", tmp_path / "models")
    assert code == 0, output
    folder = tmp_path / "models" / "football"
    assert parameters_of(read_config(folder / "config.pbtxt"))["clip_format"] == "yuv420"
    assert not (folder / "1" / "clip_format_drift.json").exists(), "it was never meant to see RGB"


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated:DeprecationWarning")
def test_a_run_that_was_trained_on_420_sees_the_same_numbers_in_training_evaluation_and_serving(
    run: Path, tmp_path: Path
) -> None:
    config = json.loads((run / "config.json").read_text())
    config["run"]["clip_format"] = "yuv420"
    (run / "config.json").write_text(json.dumps(config))
    code, output = export(run, "--repository", tmp_path / "models")
    assert code == 0, output
    candidate, _ = of_run(run)
    served = of_repository(tmp_path / "models" / "football")
    assert candidate.clip == served.clip
    rgb = torch.randint(0, 256, (2, 4, 16, 16, 3), dtype=torch.uint8)
    for clips in (rgb, rgb_to_yuv420(rgb)):
        torch.testing.assert_close(candidate.score(clips).logits, served.score(clips).logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(served.score(rgb).logits, served.score(rgb_to_yuv420(rgb)).logits, atol=0, rtol=0)


def test_a_network_of_odd_size_is_refused_in_420(run: Path, tmp_path: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    config["run"]["resize_short_side"] = 21
    (run / "config.json").write_text(json.dumps(config))
    code, output = export(run, "--repository", tmp_path, "--clip-format", "yuv420")
    assert code == 2
    assert "needs even sizes, not resize_short_side 21" in output
