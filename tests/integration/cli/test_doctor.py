import importlib.util
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli import doctor_command as doctor
from service.cli import doctor_redis
from service.cli.doctor_findings import Check
from service.cli.main import app
from service.local.triton_process import LocalTriton
from service.settings import Settings
from tests.fixtures.bare_machine import prepare_on_a_bare_machine
from tests.fixtures.servers import MODEL_REPOSITORY, SHIPPED_REPOSITORY

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="decode processes are shut in on Linux only")


def settings(**given: object) -> Settings:
    return Settings(_env_file=None, **given)  # type: ignore[arg-type]


def states(check: Check, **given: object) -> dict[str, str]:
    return {found.name: found.state for found in check(settings(**given))}


def test_a_redis_that_is_not_there_fails_with_advice() -> None:
    [found] = doctor_redis.redis(settings(redis_url="redis://127.0.0.1:9/0"))
    assert found.state == "failed"
    assert "VIDTR_REDIS_URL" in found.advice


def test_without_a_url_a_server_to_start_is_enough() -> None:
    assert states(doctor_redis.redis) == {"redis": "ok"}


def test_an_engine_without_its_package_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    [found] = doctor.engine(settings())
    assert (found.state, "vidtr-serve[model]" in found.advice) == ("failed", True)


def test_a_triton_that_is_not_there_fails_with_advice() -> None:
    [found] = doctor.engine(settings(engine="triton", triton_url="127.0.0.1:9"))
    assert (found.state, "8001" in found.advice) == ("failed", True)


def test_a_triton_that_is_not_installed_fails_with_advice(tmp_path: Path) -> None:
    [found] = doctor.engine(settings(engine="triton", triton_dir=tmp_path))
    assert (found.state, "install-triton" in found.advice) == ("failed", True)


def test_a_triton_that_runs_says_where_the_model_runs(
    triton_server: LocalTriton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = settings(
        engine="triton", triton_url=triton_server.addresses.grpc, default_model="untrained_tiny", triton_key=None
    )
    monkeypatch.setattr(doctor, "GPU_DEVICE", tmp_path / "none")
    [found] = doctor.engine(served)
    assert (found.state, found.detail) == ("ok", "untrained_tiny is ready, on the CPU")
    monkeypatch.setattr(doctor, "GPU_DEVICE", tmp_path)
    [found] = doctor.engine(served)
    assert found.state == "warning"
    assert found.detail == "untrained_tiny runs on the CPU, though this machine has a GPU"
    assert "vidtr models configure untrained_tiny --device gpu" in found.advice


def test_the_shipped_models_are_well() -> None:
    assert states(doctor.models, model_repository=SHIPPED_REPOSITORY) == {"model repository": "ok"}


def test_random_weights_are_a_warning_and_a_missing_default_a_failure() -> None:
    given = {"model_repository": MODEL_REPOSITORY}
    assert states(doctor.models, default_model="untrained_tiny", **given)["default model"] == "warning"
    assert states(doctor.models, default_model="missing", **given)["default model"] == "failed"


def test_a_file_that_is_not_the_one_of_its_configuration_fails(tmp_path: Path) -> None:
    folder = tmp_path / "untrained_tiny"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_bytes((MODEL_REPOSITORY / "untrained_tiny" / "config.pbtxt").read_bytes())
    (folder / "1" / "model.pt").write_bytes(b"something else")
    assert states(doctor.models, model_repository=tmp_path) == {"model repository": "failed"}


def test_a_repository_that_is_not_there_fails(tmp_path: Path) -> None:
    assert states(doctor.models, model_repository=tmp_path / "missing") == {"model repository": "failed"}


@needs_linux
def test_missing_layers_of_the_sandbox_are_a_warning_that_names_them_beside_those_that_are_active(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.video.pool.prepare_decoder", prepare_on_a_bare_machine)
    [found] = doctor.sandbox(settings(host="127.0.0.1"))
    assert found.state == "warning"
    active, _, missing = (
        found.detail.removeprefix("Active: ").removesuffix(".").partition(". This machine does not offer: ")
    )
    assert active.startswith("process per caller")
    assert missing.endswith("landlock, seccomp")


@needs_linux
@pytest.mark.parametrize("required", [{"host": "0.0.0.0"}, {"decode_sandbox": "require"}])  # noqa: S104 - not bound
def test_a_sandbox_that_is_required_and_missing_fails(
    monkeypatch: pytest.MonkeyPatch, required: dict[str, str]
) -> None:
    monkeypatch.setattr("service.video.pool.prepare_decoder", prepare_on_a_bare_machine)
    [found] = doctor.sandbox(settings(**required))
    assert (found.state, "also needs seccomp" in found.detail) == ("failed", True)
    assert "VIDTR_DECODE_SANDBOX=best_effort" in found.advice


def test_a_full_disk_fails() -> None:
    assert states(doctor.disk, spool_min_free_bytes=10**18) == {"disk": "failed"}


@pytest.mark.parametrize(("redis", "status"), [("", 0), ("redis://127.0.0.1:9/0", 1)])
def test_the_exit_status_says_whether_all_is_well(monkeypatch: pytest.MonkeyPatch, redis: str, status: int) -> None:
    monkeypatch.setenv("VIDTR_MODEL_REPOSITORY", str(SHIPPED_REPOSITORY))
    if redis:
        monkeypatch.setenv("VIDTR_REDIS_URL", redis)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == status, result.output
    assert "decode sandbox" in result.output
