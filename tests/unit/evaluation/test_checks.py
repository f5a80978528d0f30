"""Checks of what a model reads, tried on scorers whose answers are known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from service.evaluation import cuts
from service.evaluation.assessment_report import write_motion_report
from service.evaluation.camera_motion import Assessment, assess, flattened
from service.evaluation.candidates import Candidate, Score, score_of
from service.evaluation.examples import attention_picture, spread_cuts
from service.evaluation.temporal_sanity import temporal_sanity
from service.model.config import VidTrConfig
from service.model.layers import NetworkOutput
from service.model.presets import CAMERA_MOTION_LABELS as LABELS
from service.model.vidtr import VidTr
from service.training.config import TrainConfig
from service.training.start import clip_spec

FRAMES = 8
PAN_LEFT, PAN_RIGHT = LABELS.index("pan_left"), LABELS.index("pan_right")


def rising(labels: Tensor) -> Tensor:
    """Clips of four pixels whose brightness rises for `pan_right`, falls for `pan_left` and stays for others."""
    sign = (labels == PAN_RIGHT).int() - (labels == PAN_LEFT).int()
    level = 100 + 10 * sign[:, None] * torch.arange(FRAMES)
    return level[..., None, None, None].expand(-1, -1, 2, 2, 3).to(torch.uint8)


def scores(labels: Tensor, attention: Tensor | None = None) -> NetworkOutput:
    logits = 9.0 * F.one_hot(labels, len(LABELS)).float()
    if attention is None:
        attention = torch.full((len(labels), FRAMES), 1 / FRAMES)
    layers = attention[:, None].expand(-1, 2, -1)
    return NetworkOutput(logits, attention, layers, layers)


def reader(clips: Tensor) -> NetworkOutput:
    """Reads the order: what rises all the way is `pan_right`, what falls `pan_left`, what stays static, else shake."""
    step = clips[:, :, 0, 0, 0].int().diff(dim=1)
    labels = torch.full((len(clips),), LABELS.index("shake"))
    labels[(step > 0).all(1)] = PAN_RIGHT
    labels[(step < 0).all(1)] = PAN_LEFT
    labels[(step == 0).all(1)] = LABELS.index("static")
    change = F.pad(clips.float().mean((2, 3, 4)).diff(dim=1).abs(), (0, 1)) + 1e-3
    return scores(labels, change / change.sum(1, True))


def ignorant(clips: Tensor) -> NetworkOutput:
    """Looks at the last frame only."""
    return scores(torch.where(clips[:, -1, 0, 0, 0] > 100, PAN_RIGHT, PAN_LEFT))


PANS = torch.tensor([PAN_LEFT, PAN_RIGHT] * 8)


def test_a_model_that_reads_order_passes() -> None:
    found = temporal_sanity(reader, rising(PANS), PANS)
    assert found["repeated_is_static"]["share"] == 1.0
    assert found["shuffled_keeps_class"]["share"] == 0.0
    assert found["reversed_swaps_pan"]["share"] == 1.0


def test_a_model_that_looks_at_one_frame_fails() -> None:
    found = temporal_sanity(ignorant, rising(PANS), PANS)
    assert found["repeated_is_static"]["share"] == 0.0
    assert found["shuffled_keeps_class"]["share"] > 0.7


def test_other_classes_are_left_out_of_the_checks() -> None:
    labels = torch.cat([PANS, torch.full((5,), LABELS.index("static"))])
    assert temporal_sanity(reader, rising(labels), labels)["repeated_is_static"]["count"] == len(PANS)


def test_a_peak_on_either_side_of_the_cut_counts() -> None:
    signal = F.one_hot(torch.tensor([2, 3, 4, 1]), FRAMES).float()
    assert cuts.found(signal, torch.tensor([2, 2, 2, 2])).tolist() == [True, True, False, False]


def test_positions_are_counted_apart() -> None:
    signal = F.one_hot(torch.tensor([0, 5, 6]), FRAMES).float()
    everywhere, by_position = cuts.localisation(signal, torch.tensor([0, 5, 1]))
    assert (everywhere["hits"], everywhere["count"]) == (2, 3)
    assert [share["count"] for share in by_position] == [1, 1, 0, 0, 0, 1, 0]


def tiny_network() -> VidTr:
    torch.manual_seed(0)
    return VidTr(
        VidTrConfig(
            height=16,
            width=16,
            frames=FRAMES,
            patch=8,
            depth=3,
            heads=2,
            dim=16,
            mlp_dim=16,
            classes=len(LABELS),
            pooling=((1, 6),),
            qkv="separate",
        )
    ).eval()


def test_inner_signals_cover_all_input_frames() -> None:
    network = tiny_network()
    clips = torch.randint(0, 255, (3, FRAMES, 16, 16, 3), dtype=torch.uint8)
    found = cuts.inner_signals(network, clips)
    assert {tuple(signal.shape) for signal in found.values()} == {(3, FRAMES)}
    assert len(found) == 5


def test_inner_signals_leave_no_hooks_behind() -> None:
    network = tiny_network()
    cuts.inner_signals(network, torch.zeros(1, FRAMES, 16, 16, 3, dtype=torch.uint8))
    assert not any(module._forward_hooks for module in network.modules())


def candidate(score: Score, network: VidTr | None = None) -> Candidate:
    fields = {"height": 16, "width": 16, "frames": 8, "patch": 8, "depth": 1, "heads": 1, "dim": 8, "mlp_dim": 8}
    settings = {"network": fields, "data": {"kind": "folder", "videos": "x"}, "recipe": {"steps": 1}}
    clip = clip_spec(TrainConfig.model_validate(settings))
    return Candidate("reader", clip, LABELS, "softmax", score, network=network)


def cut_clips(slot: int) -> tuple[Tensor, Tensor]:
    clips = rising(torch.zeros(7).long())
    clips[:, slot + 1 :] = 250
    return clips, torch.full((7,), slot)


def pans() -> tuple[Tensor, Tensor, Tensor]:
    return rising(PANS), PANS, torch.full((len(PANS),), -1)


@pytest.fixture
def assessed() -> Assessment:
    return assess(candidate(reader), pans(), cut_clips(4), None, ignorant)


def test_an_assessment_holds_figures_and_targets(assessed: Assessment) -> None:
    assert assessed.figures["generated"]["top1"]["share"] == 1.0
    assert assessed.figures["generated"]["cuts"]["all"]["share"] == 1.0
    assert {t.what: t.met for t in assessed.targets}["generated: cuts found"]


def test_a_missed_target_says_so() -> None:
    found = assess(candidate(ignorant), pans(), cut_clips(4), None, None)
    missed = {target.what for target in found.targets if not target.met}
    assert {"generated: cuts found", "generated: shuffled frames keep their class"} <= missed


def test_figures_are_flattened_for_the_table(assessed: Assessment) -> None:
    flat = flattened(assessed.figures)
    assert isinstance(flat["generated: classes: pan_left"], dict)
    assert flat["generated: cuts: chance"] == 0.25


def test_the_report_is_one_file_with_all_classes(assessed: Assessment, tmp_path: Path) -> None:
    write_motion_report(tmp_path / "report.html", "a model", assessed)
    page = (tmp_path / "report.html").read_text()
    assert all(label in page for label in LABELS)
    assert "untrained" in page


def test_a_network_is_scored_from_uint8_clips() -> None:
    found = score_of(tiny_network())(torch.zeros(2, FRAMES, 16, 16, 3, dtype=torch.uint8))
    assert found.logits.shape == (2, len(LABELS))


def test_examples_are_the_first_cuts_of_spread_positions() -> None:
    cut = torch.tensor([-1, 0, 1, 1, 2, 3, 4, 5, 6])
    assert spread_cuts(cut) == [4, 5, 6]


def test_without_cuts_there_are_no_examples() -> None:
    assert spread_cuts(torch.tensor([-1, -1])) == []


def test_the_picture_marks_the_cut_and_the_largest_bar() -> None:
    clips = torch.zeros(1, FRAMES, 16, 16, 3, dtype=torch.uint8)
    attention = torch.full((1, FRAMES), 0.05)
    attention[0, 3] = 0.65
    picture = attention_picture(clips, attention, torch.tensor([2]))
    blue = (picture == torch.tensor([40, 90, 200], dtype=torch.uint8)).all(2).sum(0)
    assert int(blue.argmax()) // 100 == 3
    red = (picture == torch.tensor([214, 60, 40], dtype=torch.uint8)).all(2).any(0).nonzero().flatten()
    assert red.tolist() == list(range(3 * 100 - 4, 3 * 100))
