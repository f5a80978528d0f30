"""`vidtr import` as its users type it."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from service.cli.main import app
from service.inference.spec import spec_from_config
from service.model.presets import PRESETS
from service.model.weights import save_weights
from service.model_config import read_config
from tests.integration.model.weights.test_importing import LABELS, preset
from tests.unit.model.weights.files import CVIDTR, network
from tests.unit.model.weights.test_inflate import image


@pytest.fixture
def labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of class names; the small C-VidTr can be named `tiny`."""
    monkeypatch.setitem(PRESETS, "tiny", preset("cvidtr"))
    (tmp_path / "labels.txt").write_text("\n".join(LABELS) + "\n")
    return tmp_path / "labels.txt"


def vidtr_import(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["import", *map(str, arguments)])


def test_weights_are_imported_under_a_name_and_a_version(tmp_path: Path, labels: Path) -> None:
    save_weights(network(CVIDTR), tmp_path / "w.safetensors")
    repository = tmp_path / "repository"
    done = vidtr_import(
        tmp_path / "w.safetensors",
        *("--preset", "tiny", "--labels", labels, "--name", "mine", "--version", 3, "--repository", repository),
    )
    assert done.exit_code == 0, done.output
    spec = spec_from_config(read_config(repository / "mine" / "config.pbtxt"), "3")
    assert (spec.labels, spec.trained) == (LABELS, True)
    assert (repository / "mine" / "3" / "model.pt").exists()


def test_name_and_repository_have_defaults(tmp_path: Path, labels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDTR_MODEL_REPOSITORY", str(tmp_path / "models"))
    save_weights(network(CVIDTR), tmp_path / "w.safetensors")
    assert vidtr_import(tmp_path / "w.safetensors", "--preset", "tiny", "--labels", labels).exit_code == 0
    assert (tmp_path / "models" / "tiny" / "1" / "model.pt").exists()


def test_an_inflated_model_is_untrained_and_what_was_not_used_is_told(tmp_path: Path, labels: Path) -> None:
    torch.save(image(), tmp_path / "vit.pth")
    done = vidtr_import(
        tmp_path / "vit.pth", "--inflate", "--preset", "tiny", "--labels", labels, "--repository", tmp_path
    )
    assert done.exit_code == 0, done.output
    assert "not used: fc.weight, fc.bias" in done.stderr
    assert not spec_from_config(read_config(tmp_path / "tiny" / "config.pbtxt"), "1").trained


def test_a_corrupted_checkpoint_is_one_line_with_the_offending_key(tmp_path: Path, labels: Path) -> None:
    weights = dict(network(CVIDTR).state_dict())
    weights["encoder.layers.2.self_attn.in_proj_bias"] = torch.zeros(47)
    torch.save(weights, tmp_path / "w.pth")
    done = vidtr_import(tmp_path / "w.pth", "--preset", "tiny", "--labels", labels, "--repository", tmp_path / "models")
    assert done.exit_code == 1
    [line] = done.stderr.splitlines()
    assert "encoder.layers.2.self_attn.in_proj_bias is (47,), expected (48,)" in line
    assert not (tmp_path / "models").exists()


def test_brackets_in_a_key_are_shown_as_they_are(tmp_path: Path, labels: Path) -> None:
    torch.save({**network(CVIDTR).state_dict(), "[red]extra[/red]": torch.zeros(1)}, tmp_path / "w.pth")
    done = vidtr_import(tmp_path / "w.pth", "--preset", "tiny", "--labels", labels, "--repository", tmp_path)
    assert "extra [red]extra[/red] (1,)" in done.stderr


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--preset", "huge", "no preset 'huge'; there are "),
        ("--labels", "k500", "neither a file nor one of hmdb51, k400"),
        ("--name", "a/b", "model name 'a/b' must be"),
    ],
)
def test_an_option_that_names_nothing_is_told(
    tmp_path: Path, labels: Path, option: str, value: str, message: str
) -> None:
    save_weights(network(CVIDTR), tmp_path / "w.safetensors")
    options = {"--preset": "tiny", "--labels": str(labels), "--repository": str(tmp_path), option: value}
    done = vidtr_import(tmp_path / "w.safetensors", *(part for pair in options.items() for part in pair))
    assert done.exit_code == 1
    assert message in done.stderr
