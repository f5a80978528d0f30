"""A checkpoint becomes a model repository entry that is served."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from service.inference.spec import spec_from_config
from service.model.card import ModelCard
from service.model.preprocess import Normalize
from service.model.presets import Preset
from service.model.weights import CheckpointMismatch, save_weights
from service.model.weights.importing import import_checkpoint
from service.model_config import read_config
from tests.unit.model.weights.files import RELEASED, VIDTR, network, save_as_trained
from tests.unit.model.weights.test_inflate import image

LABELS = ("walk", "run", "jump", "sit", "stand")


def preset(form: str) -> Preset:
    config = RELEASED[form]

    def card() -> ModelCard:
        return ModelCard(
            labels=tuple(f"class {i}" for i in range(config.classes)),
            trained=False,
            description="a small network of random weights",
            frame_step=8,
            reference_fps=30.0,
            resize_short_side=20,
            sampling="index",
            resize="opencv_bilinear",
        )

    return Preset(config=config, make_card=card)


def entry(folder: Path) -> tuple[Any, torch.jit.ScriptModule]:
    return spec_from_config(read_config(folder / "config.pbtxt"), "1"), torch.jit.load(folder / "1" / "model.pt")


def clips() -> Tensor:
    shape = (2, VIDTR.frames, VIDTR.height, VIDTR.width, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated")
@pytest.mark.parametrize("form", RELEASED)
def test_an_imported_training_checkpoint_scores_as_the_network_it_was_saved_from(tmp_path: Path, form: str) -> None:
    trained = network(RELEASED[form], seed=5)
    checkpoint = save_as_trained(trained.state_dict(), tmp_path / "trained.pth")
    imported = import_checkpoint(
        checkpoint, tmp_path / "repository", preset=preset(form), labels=LABELS, name="mine", version=1
    )
    _, served = entry(imported.folder)
    with torch.inference_mode():
        torch.testing.assert_close(served(clips())[0], trained(Normalize()(clips())).logits, rtol=0, atol=1e-5)


def test_the_entry_says_what_it_is(tmp_path: Path) -> None:
    checkpoint = save_as_trained(network(VIDTR).state_dict(), tmp_path / "walks.pth")
    imported = import_checkpoint(
        checkpoint, tmp_path / "repository", preset=preset("vidtr"), labels=LABELS, name="mine", version=1
    )
    spec = spec_from_config(read_config(imported.folder / "config.pbtxt"), "1")
    assert (spec.name, spec.labels, spec.trained, spec.form) == ("mine", LABELS, True, "vidtr")
    assert (spec.frame_step, spec.sampling, spec.resize) == (8, "index", "opencv_bilinear")
    assert spec.description == "Imported from walks.pth."


def test_the_number_of_labels_is_the_number_of_classes(tmp_path: Path) -> None:
    seven = replace(VIDTR, classes=7)
    save_weights(network(seven), tmp_path / "seven.safetensors")
    imported = import_checkpoint(
        tmp_path / "seven.safetensors",
        tmp_path,
        preset=preset("vidtr"),
        labels=[f"label {i}" for i in range(7)],
        name="mine",
        version=1,
    )
    assert len(spec_from_config(read_config(imported.folder / "config.pbtxt"), "1").labels) == 7


def test_labels_of_another_number_than_the_heads_are_refused_naming_the_head(tmp_path: Path) -> None:
    save_weights(network(VIDTR), tmp_path / "five.safetensors")
    with pytest.raises(CheckpointMismatch, match=r"fc\.weight is \(5, 16\), expected \(4, 16\)"):
        import_checkpoint(
            tmp_path / "five.safetensors", tmp_path, preset=preset("vidtr"), labels=LABELS[:4], name="mine", version=1
        )


def test_a_checkpoint_that_does_not_fit_leaves_nothing_behind(tmp_path: Path) -> None:
    weights = dict(network(VIDTR).state_dict())
    del weights["encoder.layers.1.linear2.bias"]
    checkpoint = save_as_trained(weights, tmp_path / "broken.pth")
    with pytest.raises(CheckpointMismatch, match=r"missing encoder\.layers\.1\.linear2\.bias \(16,\)"):
        import_checkpoint(
            checkpoint, tmp_path / "repository", preset=preset("vidtr"), labels=LABELS, name="mine", version=1
        )
    assert list(tmp_path.iterdir()) == [checkpoint]


def test_an_inflated_model_is_untrained_and_the_same_each_time(tmp_path: Path) -> None:
    torch.save(image(), tmp_path / "vit.pth")
    specs = []
    for name in ("one", "two"):
        imported = import_checkpoint(
            tmp_path / "vit.pth",
            tmp_path,
            preset=preset("vidtr"),
            labels=LABELS,
            name=name,
            version=1,
            from_image=True,
        )
        assert imported.unused == ["fc.weight", "fc.bias"]
        specs.append(spec_from_config(read_config(imported.folder / "config.pbtxt"), "1"))
    assert not specs[0].trained
    assert specs[0].weights_sha256 == specs[1].weights_sha256
