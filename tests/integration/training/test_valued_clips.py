"""From a served model to a file of what frames are worth to it, and to a training that draws attention there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from service.evaluation.candidates import Candidate, of_repository, score_of
from service.evaluation.frame_value_targets import valued_clips
from service.model.card import ModelCard
from service.model.model_export import export_model
from service.model.presets import CAMERA_MOVE_LABELS, CAMERA_MOVE_QUALIFIERS
from service.model.vidtr import VidTr
from service.settings import Settings
from service.training.config import TrainConfig
from service.training.data_source import make_source
from service.training.served_weights import served_weights
from service.training.start import clip_spec, make_network
from service.training.training_loop import train
from service.training.valued_clips import ValuedClips, read_valued_clips
from service.video.config import VideoLimits

LIMITS = Settings().subset(VideoLimits)
SIDE, FRAMES, LABELS = 16, 8, len(CAMERA_MOVE_LABELS)


def config(folder: Path, network: dict[str, Any] | None = None, **data: Any) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "network": {
                "height": SIDE, "width": SIDE, "frames": FRAMES, "patch": 8, "depth": 3, "heads": 2, "dim": 16,
                "mlp_dim": 32, "pooling": [[2, 4]], **(network or {}),
            },
            "data": {
                "kind": "camera_moves", "pictures": folder, "held_out_pictures": folder, "procedural": 16,
                "evaluation_clips": 16, **data,
            },
            "recipe": {
                "steps": 6, "batch": 16, "learning_rate": 3e-3, "warmup": 0, "frame_values": 1.0, "frozen_layers": 1,
            },
            "run": {"evaluate_every": 6, "accelerator": "cpu"},
        }
    )  # fmt: skip


def decided(settings: TrainConfig) -> VidTr:
    """A network whose scores depend on its clips as much as a trained one's do."""
    network = make_network(settings, LABELS)
    assert isinstance(network, VidTr)
    with torch.no_grad():
        network.fc.weight.mul_(12)
    return network.eval()


def as_candidate(settings: TrainConfig, network: VidTr) -> Candidate:
    return Candidate(
        "decided", clip_spec(settings), CAMERA_MOVE_LABELS, "sigmoid", score_of(network), (), CAMERA_MOVE_QUALIFIERS
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ValuedClips]:
    folder = tmp_path_factory.mktemp("valued")
    settings = config(folder)
    source = make_source(settings, LIMITS, folder)
    batches = (source.batch(step, 0, 16, 16) for step in range(0, 400, 4))
    found = valued_clips(as_candidate(settings, decided(settings)), batches, 12, 4)
    found.save(folder / "valued.pt")
    return folder / "valued.pt", found


def test_values_are_measured_where_motion_moves_the_first_label(measured: tuple[Path, ValuedClips]) -> None:
    _, found = measured
    assert len(found.measured) >= 12
    worth = found.values[found.measured].sum(1)
    assert ((worth >= 0.2 - 1e-5) & (worth <= 1)).all()


def test_clips_with_frames_left_out_are_kept_with_their_scores(measured: tuple[Path, ValuedClips]) -> None:
    path, found = measured
    network = decided(config(path.parent))
    kept = read_valued_clips(path)
    assert len(kept.others) >= 4 * len(kept.measured)
    scores = score_of(network)(kept.clips).logits.sigmoid()
    torch.testing.assert_close(scores, kept.scores, atol=1e-5, rtol=0)
    repeated = (found.clips[:, 1:] == found.clips[:, :-1]).flatten(2).all(2).any(1)
    assert repeated[found.others].sum() >= 3 * len(kept.measured)


def test_training_draws_attention_to_the_values_and_leaves_frozen_layers(
    measured: tuple[Path, ValuedClips], tmp_path: Path
) -> None:
    path, found = measured
    settings = config(tmp_path, valued_clips=path)
    network = decided(settings)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    source = make_source(settings, LIMITS, tmp_path)

    def apart() -> float:
        with torch.inference_mode():
            attention = score_of(network.eval())(found.clips[found.measured]).temporal_attention
        wanted = found.values[found.measured].clamp(min=0)
        return float((attention - wanted / wanted.sum(1, keepdim=True)).abs().sum(1).mean())

    far = apart()
    train(network, source, settings, tmp_path / "run")
    assert apart() < far
    after = network.state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    first = {"cls_s", "cls_t", "pos_embedding", "conv_stem.weight", "conv_stem.bias"}
    assert same == first | {name for name in before if name.startswith("encoder.layers.0.")}


def test_values_of_clips_that_run_backwards_run_backwards(measured: tuple[Path, ValuedClips], tmp_path: Path) -> None:
    path, found = measured
    examples = make_source(config(tmp_path, valued_clips=path), LIMITS, tmp_path).batch(3, 0, 16, 16)
    known = [row for row in range(16) if examples.values[row].isfinite().all()]
    assert len(known) == 10
    for row in known:
        values, rows = examples.values[row], found.values[found.measured]
        forth = (rows == values).all(1)
        back = (rows == values.flip(0)).all(1)
        [chosen] = (forth | back).nonzero().flatten().tolist()
        clip = found.clips[found.measured[chosen]]
        brightness = clip.float().mean((1, 2, 3))
        expected = brightness if forth[chosen] else brightness.flip(0)
        torch.testing.assert_close(examples.clips[row].float().mean((1, 2, 3)), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"clips": torch.zeros(2, 4, SIDE, SIDE, 3, dtype=torch.uint8)}, "are 4x16x16, not 8x16x16"), ({}, "no values")],
)
def test_a_file_that_does_not_fit_is_refused(change: dict[str, torch.Tensor], message: str, tmp_path: Path) -> None:
    fields = {
        "clips": torch.zeros(2, FRAMES, SIDE, SIDE, 3, dtype=torch.uint8),
        "scores": torch.zeros(2, LABELS),
        "cut": torch.tensor([-1, -1]),
        "values": torch.full((2, FRAMES), torch.nan),
    }
    ValuedClips(**{**fields, **change}).save(tmp_path / "valued.pt")
    with pytest.raises(ValueError, match=message):
        make_source(config(tmp_path, valued_clips=tmp_path / "valued.pt"), LIMITS, tmp_path)


def test_layers_that_are_all_frozen_are_refused(tmp_path: Path) -> None:
    settings = config(tmp_path)
    settings = settings.model_copy(update={"recipe": settings.recipe.model_copy(update={"frozen_layers": 3})})
    with pytest.raises(ValueError, match=r"frozen_layers \(3\) must leave one of 3 layers"):
        train(decided(settings), make_source(settings, LIMITS, tmp_path), settings, tmp_path / "run")


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("outputs", [(), ("spatial",), ("embedding",), ("spatial", "embedding")])
def test_a_run_goes_on_from_a_served_model(outputs: tuple[str, ...], tmp_path: Path) -> None:
    settings = config(tmp_path)
    network = decided(settings)
    card = ModelCard(
        labels=CAMERA_MOVE_LABELS, trained=True, description="a start", frame_step=4, reference_fps=30.0,
        resize_short_side=18, activation="sigmoid", embedding="embedding" in outputs, spatial="spatial" in outputs,
    )  # fmt: skip
    folder = export_model(network, tmp_path / "models", name="start", version=1, card=card)
    file = folder / "1" / "model.pt"
    assert served_weights(file).keys() == network.state_dict().keys()
    for name, tensor in served_weights(file).items():
        torch.testing.assert_close(tensor, network.state_dict()[name], atol=1e-5, rtol=1e-5)
    again = make_network(config(tmp_path, {"start": {"served": str(file)}}), LABELS).eval()
    clips = torch.randint(0, 256, (3, FRAMES, SIDE, SIDE, 3), dtype=torch.uint8)
    served = of_repository(folder).score(clips).logits
    torch.testing.assert_close(score_of(again)(clips).logits, served, atol=1e-4, rtol=0)
