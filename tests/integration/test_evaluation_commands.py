"""`vidtr footage`, `train`, `evaluate` and `crossvalidate` one after the other, on videos and pictures made here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from service.cli.main import app
from service.inference.registry import scan_repository
from service.model.card import ModelCard
from service.model.model_export import export_model
from service.model.presets import CAMERA_MOTION_LABELS as LABELS
from service.model.weights.native import load_weights
from service.training.config import TrainConfig
from service.training.run_report import png
from service.training.start import make_network
from tests.fixtures.extras import TRAINING
from tests.unit.evaluation.scenes import scene, write_still

pytestmark = [pytest.mark.slow, TRAINING]

CONFIG = """
[network]
height = 16
width = 16
frames = 8
patch = 8
depth = 2
heads = 2
dim = 16
mlp_dim = 32
pooling = [[0, 4]]
qkv = "separate"

[data]
kind = "camera_motion"
pictures = "pictures"
held_out_pictures = "pictures"
tiles_each = 6
procedural = 24
evaluation_clips = 12

[recipe]
steps = 2
batch = 8
warmup = 1

[run]
accelerator = "cpu"
evaluate_every = 2
"""


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    threads = torch.get_num_threads()
    project = tmp_path_factory.mktemp("project")
    (project / "pictures").mkdir()
    (project / "pictures" / "a.png").write_bytes(png(torch.from_numpy(scene(5, 320, 240))))
    (project / "run.toml").write_text(CONFIG)
    for seed in range(3):
        write_still(project / "videos" / "still" / f"{seed}.mp4", seed, frames=14, fps=10)
        write_still(project / "videos" / "moving" / f"{seed}.mp4", seed, frames=14, fps=10, panned=4)
    run("footage", str(project / "videos" / "still"), "--out", str(project / "footage"), "--each", "2")
    run("train", str(project / "run.toml"), "--out", str(project / "run"))
    torch.set_num_threads(threads)
    return project


def test_a_run_is_evaluated_on_footage(project: Path) -> None:
    options = ("--footage", str(project / "footage"), "--each", "2", "--faithfulness", "2")
    printed = run("evaluate", str(project / "run"), *options)
    figures = json.loads((project / "run" / "figures.json").read_text())
    assert figures["footage"]["top1"]["count"] == 2 * len(LABELS)
    assert figures["generated"]["top1"]["count"] == 2 * len(LABELS)
    assert figures["unaltered"]["videos"] == 3
    assert figures["faithfulness"]["clips"] <= 2
    assert "untrained" in figures["footage"]["cuts"]
    assert (project / "run" / "attention.png").read_bytes().startswith(b"\x89PNG")
    assert "footage: top-1" in printed


def test_the_served_model_is_evaluated_to_the_same_figures(project: Path) -> None:
    settings = TrainConfig.model_validate_json((project / "run" / "config.json").read_text())
    network = make_network(settings, len(LABELS)).eval()
    load_weights(network, project / "run" / "best.safetensors")
    card = ModelCard(
        labels=LABELS, trained=True, description="", frame_step=4, reference_fps=30.0, resize_short_side=18
    )
    export_model(network, project / "repository", name="camera", version=1, card=card)
    footage = ("--footage", str(project / "footage"), "--each", "2")
    run("evaluate", str(project / "run"), *footage)
    folder, pictures = project / "repository" / "camera", project / "pictures"
    run("evaluate", str(folder), *footage, "--pictures", str(pictures), "--out", str(project / "report"))
    ours, served = (json.loads((project / name / "figures.json").read_text()) for name in ("run", "report"))
    assert served["footage"]["top1"] == ours["footage"]["top1"]
    assert served["unaltered"] == ours["unaltered"]
    assert served["footage"]["cuts"]["all"] == ours["footage"]["cuts"]["all"]


def test_labeled_data_are_cross_validated(project: Path) -> None:
    labeled = CONFIG[: CONFIG.index("[data]")] + f'[data]\nkind = "folder"\nvideos = "{project / "videos"}"\n'
    labeled += "folds = 3\nwindows = 1\n\n" + CONFIG[CONFIG.index("[recipe]") :]
    (project / "labeled.toml").write_text(labeled)
    printed = run("crossvalidate", str(project / "labeled.toml"), "--out", str(project / "folds"), "--windows", "1")
    figures = json.loads((project / "folds" / "figures.json").read_text())
    assert len(figures["folds"]) == 3
    assert "all folds together" in printed
    assert "Folds" in (project / "folds" / "report.html").read_text()


def test_a_run_of_camera_moves_gets_thresholds_that_the_served_model_goes_by(project: Path) -> None:
    moves = CONFIG.replace('kind = "camera_motion"', 'kind = "camera_moves"')
    moves = moves.replace("evaluation_clips = 12", "evaluation_clips = 48").replace("batch = 8", "batch = 16")
    (project / "moves.toml").write_text(moves)
    folder, models = project / "moves", project / "moves_models"
    run("train", str(project / "moves.toml"), "--out", str(folder))
    run("evaluate", str(folder), "--precision", "0.6")
    thresholds = json.loads((folder / "thresholds.json").read_text())
    run("export", str(folder), "--repository", str(models), "--description", "moves")
    spec = next(iter(scan_repository(models))).spec
    assert dict(zip(spec.labels, spec.thresholds, strict=True)) == thresholds
    assert (spec.framing, spec.activation, spec.qualifiers) == ("whole", "sigmoid", ("handheld",))
    table = project / "videos" / "moves.csv"
    table.write_text("file,start_s,end_s,truth\nstill/0.mp4,0,1.0667,static\nmoving/0.mp4,0,1.0667,pan_right\n")
    answers = []
    for target, out in ((folder, project / "of_run"), (models / "moves", project / "of_model")):
        run("evaluate", str(target), "--truth", str(table), "--out", str(out))
        figures = json.loads((out / "windows.json").read_text())["moves"]
        answers.append((figures["accuracy"], figures["abstained"], figures["mean_confidence"]))
    assert answers[0][:2] == answers[1][:2]
    assert answers[0][2] == pytest.approx(answers[1][2], abs=1e-5)


def test_windows_that_were_looked_at_are_evaluated_beside_other_answers(project: Path) -> None:
    table, others = project / "videos" / "truth.csv", project / "tracker.csv"
    rows = ["still/0.mp4,0,1.0667,static", "moving/0.mp4,0,1.0667,pan_right", "moving/1.mp4,0.1,1.1667,mixed"]
    table.write_text("file,start_s,end_s,truth\n" + "\n".join(rows) + "\n")
    others.write_text("file,start_s,end_s,label\n" + "\n".join(rows) + "\n")
    arguments = ("--truth", str(table), "--beside", str(others), "--out", str(project / "windows"))
    printed = run("evaluate", str(project / "run"), *arguments)
    figures = json.loads((project / "windows" / "windows.json").read_text())
    assert figures["tracker"]["accuracy"]["share"] == 1.0
    assert figures["run"]["accuracy"]["count"] == 2
    assert figures["run"]["cpu_s"] > 0
    assert "tracker" in (project / "windows" / "windows.html").read_text()
    assert "right, of clean windows" in printed
