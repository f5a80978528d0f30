from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.settings import SECRET, Settings
from service.video.config import DecodeConfig


def test_a_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDTR_MAX_UPLOAD_BYTES", "1000")
    assert Settings().max_upload_bytes == 1000


@pytest.mark.parametrize("in_file", [False, True], ids=["environment", "file"])
def test_a_renamed_setting_is_read_under_its_old_name_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, in_file: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    if in_file:
        (tmp_path / ".env").write_text("VIDTR_WORKER_GATHER_MS=7\n")
    else:
        monkeypatch.setenv("VIDTR_WORKER_GATHER_MS", "7")
    with pytest.warns(FutureWarning, match="VIDTR_WORKER_GATHER_MS is now VIDTR_WORKER_BATCH_DELAY_MS"):
        assert Settings().worker_batch_delay_ms == 7


def test_the_new_name_of_a_setting_goes_before_its_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDTR_WORKER_GATHER_MS", "7")
    monkeypatch.setenv("VIDTR_WORKER_BATCH_DELAY_MS", "8")
    assert Settings().worker_batch_delay_ms == 8


def test_lists_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDTR_ALLOWED_CODECS", "h264, vp9")
    assert Settings().allowed_codecs == ("h264", "vp9")


def test_payloads_must_outlive_jobs() -> None:
    with pytest.raises(ValidationError, match=r"payload_ttl_s \(10\) must exceed job_deadline_s \(600\)"):
        Settings(payload_ttl_s=10)


SECRETS: dict[str, Any] = {
    "webhook_secret": "whsec_" + "c2VjcmV0" * 4,
    "redis_url": "redis://:password@127.0.0.1:6379/0",
    "api_keys": "[keys]",
    "triton_key": "0123456789abcdef" * 2,
}


def test_a_child_process_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    parent = Settings(
        port=1234,
        allowed_codecs=("h264",),
        spool_dir="/tmp/spool",  # noqa: S108
        prometheus_multiproc_dir="/tmp/m",  # noqa: S108
        **SECRETS,
    )
    # Another one of the same name must not win: what the parent has may come from a flag.
    (tmp_path / ".env").write_text("VIDTR_REDIS_URL=redis://elsewhere\n")
    for name, value in parent.child_environment(tmp_path / "secrets").items():
        monkeypatch.setenv(name, value)
    assert Settings(_env_file=tmp_path / ".env") == parent


def test_no_secret_is_in_the_environment_of_a_child_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(f"vidtr_{name}", value)
    environment = Settings(_env_file=None).child_environment(tmp_path / "secrets")
    assert not set(SECRETS.values()) & set(environment.values())
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "secrets").iterdir()} == {0o600}
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", SECRETS)
def test_every_secret_of_the_settings_is_one(name: str) -> None:
    assert name in SECRET


def test_a_rooms_config_takes_its_fields_from_settings_of_the_same_name() -> None:
    assert Settings(max_streams=7).subset(DecodeConfig).max_streams == 7
