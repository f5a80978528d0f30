"""The engine computes in the arithmetic that the machine and the setting allow, and says which."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from service.contracts import EnginePrecision, ModelSpec
from service.errors import PrecisionUnavailable
from service.inference.arithmetic import CpuArithmetic, check_onnx
from service.inference.backend import Scores
from service.inference.registry import scan_repository
from service.inference.torchscript import TorchScriptBackend, TorchScriptConfig
from service.model.presets import export_preset
from service.model_config import ModelConfigError
from service.reference_clips import PARAMETER, reference_clips

NAME = "untrained_tiny"
HAS_ALL = CpuArithmetic(bf16=True, int8=True)
HAS_NONE = CpuArithmetic(bf16=False, int8=False)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("exported")
    export_preset(NAME, repository, max_batch_size=2)
    return repository


@pytest.fixture
def repository(exported: Path, tmp_path: Path) -> Path:
    """A copy whose configuration a test may change."""
    folder = tmp_path / NAME
    folder.mkdir()
    (folder / "1").symlink_to(exported / NAME / "1")
    (folder / "config.pbtxt").write_text((exported / NAME / "config.pbtxt").read_text())
    return tmp_path


def rewrite(repository: Path, change: Any) -> None:
    """Change the entry of version 1 among the reference logits of a configuration."""
    path = repository / NAME / "config.pbtxt"
    text = path.read_text()
    line = next(line for line in text.splitlines() if PARAMETER in line)
    match = re.search(r'string_value: ("(?:[^"\\]|\\.)*")', line)
    assert match
    entries = json.loads(json.loads(match[1]))
    change(entries)
    path.write_text(text.replace(match[1], json.dumps(json.dumps(entries))))


async def served(
    repository: Path, precision: EnginePrecision, cpu: CpuArithmetic = HAS_ALL
) -> tuple[ModelSpec, Scores, list[Any]]:
    backend = TorchScriptBackend(TorchScriptConfig(repository, threads=1, precision=precision, cpu=cpu))
    with capture_logs() as logs:
        await backend.start()
    try:
        [spec] = await backend.models()
        scores = await backend.infer(spec.name, spec.version, reference_clips(spec.clip_shape)[:2])
    finally:
        await backend.close()
    return spec, scores, logs


@pytest.mark.parametrize("precision", ["bf16", "int8"])
async def test_a_model_is_computed_in_the_arithmetic_that_is_named(exported: Path, precision: EnginePrecision) -> None:
    fine_spec, fine, _ = await served(exported, "fp32")
    spec, coarse, logs = await served(exported, precision)
    assert (fine_spec.computed_in, spec.computed_in, spec.precision) == ("fp32", precision, "fp32")
    drift = np.abs(coarse.logits - fine.logits).max()
    [chosen] = [entry for entry in logs if entry["event"] == "arithmetic_chosen"]
    assert 0 < drift <= chosen["bound"]
    assert chosen["arithmetic"] == precision
    assert 0 < chosen["drift"] <= chosen["bound"]


async def test_auto_takes_bf16_where_the_cpu_has_it(exported: Path) -> None:
    spec, _, _ = await served(exported, "auto")
    assert spec.computed_in == "bf16"


async def test_auto_takes_float32_elsewhere_and_says_why(exported: Path) -> None:
    spec, _, logs = await served(exported, "auto", HAS_NONE)
    assert spec.computed_in == "fp32"
    [chosen] = [entry for entry in logs if entry["event"] == "arithmetic_chosen"]
    assert chosen["why"] == "this CPU lacks AVX-512 BF16 or AMX"


@pytest.mark.parametrize(("precision", "lacking"), [("bf16", "AVX-512 BF16"), ("int8", "AVX-512 VNNI")])
async def test_arithmetic_that_the_cpu_lacks_is_refused_where_it_is_named(
    exported: Path, precision: EnginePrecision, lacking: str
) -> None:
    with pytest.raises(
        PrecisionUnavailable, match=f"in {precision}: this CPU lacks {lacking}.* Set `engine_precision`"
    ):
        await served(exported, precision, HAS_NONE)


def narrow(entries: Any) -> None:
    entries["1"]["bound"] = 1e-6


@pytest.mark.parametrize("precision", ["bf16", "int8"])
async def test_a_model_that_moves_too_far_is_refused_where_it_is_named(
    repository: Path, precision: EnginePrecision
) -> None:
    rewrite(repository, narrow)
    with pytest.raises(PrecisionUnavailable, match=r"moves the logits of the reference clips by .* is 1e-06"):
        await served(repository, precision)


async def test_a_model_that_moves_too_far_is_left_in_float32_by_auto(repository: Path) -> None:
    rewrite(repository, narrow)
    spec, _, logs = await served(repository, "auto")
    assert spec.computed_in == "fp32"
    assert any("moves the logits" in entry.get("why", "") for entry in logs)


async def test_an_export_without_logits_is_compared_with_float32_at_the_start(repository: Path) -> None:
    rewrite(repository, lambda entries: entries.clear())
    spec, _, logs = await served(repository, "bf16")
    assert spec.computed_in == "bf16"
    assert any(entry["event"] == "reference_logits_missing" for entry in logs)


async def test_a_model_exported_in_half_precision_is_computed_as_it_is(tmp_path: Path) -> None:
    export_preset(NAME, tmp_path, "bf16", max_batch_size=1)
    backend = TorchScriptBackend(TorchScriptConfig(tmp_path, threads=1, precision="int8", cpu=HAS_NONE))
    await backend.start()
    [spec] = await backend.models()
    await backend.close()
    assert (spec.arithmetic, spec.computed_in) == (None, "bf16")


def test_an_onnx_file_is_refused_where_arithmetic_is_named(exported: Path) -> None:
    [file] = scan_repository(exported)
    check_onnx(file, "auto")
    with pytest.raises(PrecisionUnavailable, match="ONNX file"):
        check_onnx(file, "int8")


def test_logits_that_do_not_fit_the_labels_are_refused(repository: Path) -> None:
    rewrite(repository, lambda entries: entries["1"]["logits"].pop())
    with pytest.raises(ModelConfigError, match="reference_logits' of version 1 is not usable"):
        scan_repository(repository)


def test_a_second_version_keeps_the_logits_of_the_first(exported: Path, tmp_path: Path) -> None:
    from service.model.model_export import export_model
    from service.model.presets import build_preset, find_preset

    for version in (1, 2):
        export_model(build_preset(NAME), tmp_path, name=NAME, version=version, card=find_preset(NAME).card)
    rewrite(tmp_path, lambda entries: entries["1"].update(bound=9.0))
    export_model(build_preset(NAME), tmp_path, name=NAME, version=2, card=find_preset(NAME).card)
    found: dict[str, Any] = {}
    rewrite(tmp_path, found.update)
    assert (found["1"]["bound"], found["2"]["bound"] < 9.0) == (9.0, True)


def test_a_machine_that_torch_knows_nothing_of_has_no_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert CpuArithmetic.of_this_machine() == HAS_NONE
