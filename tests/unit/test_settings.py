import pytest
from pydantic import ValidationError

from service.settings import Settings
from service.video.config import DecodeConfig


def test_a_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDTR_MAX_UPLOAD_BYTES", "1000")
    assert Settings().max_upload_bytes == 1000


def test_lists_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDTR_ALLOWED_CODECS", "h264, vp9")
    assert Settings().allowed_codecs == ("h264", "vp9")


def test_payloads_must_outlive_jobs() -> None:
    with pytest.raises(ValidationError, match=r"payload_ttl_s \(10\) must exceed job_deadline_s \(600\)"):
        Settings(payload_ttl_s=10)


def test_a_child_process_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    parent = Settings(port=1234, allowed_codecs=("h264",), spool_dir="/tmp/spool", prometheus_multiproc_dir="/tmp/m")  # noqa: S108
    for name, value in parent.child_environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == parent


def test_a_rooms_config_takes_its_fields_from_settings_of_the_same_name() -> None:
    assert Settings(max_streams=7).narrowed(DecodeConfig).max_streams == 7
