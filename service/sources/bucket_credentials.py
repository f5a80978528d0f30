"""Credentials for S3 from a file, which is read again: a mounted secret that is replaced takes effect."""

from __future__ import annotations

import configparser
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from obstore.store import S3Credential

KEEP = timedelta(minutes=5)


def s3_credentials(file: Path) -> Callable[[], S3Credential]:
    """What reads the section `default` of a shared credentials file of AWS. It raises OSError or ValueError."""

    def read() -> S3Credential:
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(file.read_text(encoding="utf-8"))
            found = parser["default"]
            return {
                "access_key_id": found["aws_access_key_id"],
                "secret_access_key": found["aws_secret_access_key"],
                "token": found.get("aws_session_token"),
                "expires_at": datetime.now(UTC) + KEEP,
            }
        except (configparser.Error, KeyError):
            # The text of a parser's error quotes the file.
            raise ValueError(f"{file} is no credentials file of AWS with a section `default`") from None

    return read
