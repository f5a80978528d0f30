"""Credentials for S3 from a file."""

import traceback
from pathlib import Path

import pytest

from service.sources.bucket_credentials import s3_credentials


def test_a_replaced_file_of_credentials_takes_effect(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\naws_session_token = c\n")
    read = s3_credentials(file)
    assert {**read(), "expires_at": None} == {
        "access_key_id": "a",
        "secret_access_key": "b",
        "token": "c",
        "expires_at": None,
    }
    file.write_text("[default]\naws_access_key_id = d\naws_secret_access_key = e\n")
    assert read()["access_key_id"] == "d"


@pytest.mark.parametrize("text", ["aws_access_key_id = secret", "[default]\nsecret", "[other]\nsecret = 1"])
def test_an_error_of_a_file_of_credentials_does_not_quote_it(tmp_path: Path, text: str) -> None:
    file = tmp_path / "credentials"
    file.write_text(text)
    with pytest.raises(ValueError, match="no credentials file") as raised:
        s3_credentials(file)()
    assert "secret" not in "".join(traceback.format_exception(raised.value))
