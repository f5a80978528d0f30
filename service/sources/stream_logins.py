"""Users and passwords of cameras, by name: in a file of the operator, each for one host."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError

from service.errors import SourceNotAllowed, SourceUnavailable


class StreamLogin(BaseModel):
    """Who this service is to one host."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(min_length=1)
    user: str = Field("", pattern=r"^[^\x00-\x1f\x7f:]*$")
    password: SecretStr


_LOGINS = TypeAdapter(dict[str, StreamLogin])


class StreamLogins:
    """The file is read each time: a mounted secret that is replaced takes effect."""

    def __init__(self, file: Path | None) -> None:
        self._file = file

    def find(self, name: str, host: str) -> StreamLogin:
        """The login of this name for this host.

        Raises SourceNotAllowed where there is none, and SourceUnavailable for a file that cannot be read.
        """
        # One answer for a name that is unknown and one of another host: a caller learns of no other.
        login = self._read().get(name)
        if login is None or login.host.lower().removesuffix(".") != host.lower().removesuffix("."):
            raise SourceNotAllowed(
                f"There are no credentials {name!r} for {host} here. Use a name that the operator has put into the file"
                " of `stream_credentials_file`.",
                actual=name,
            )
        return login

    def _read(self) -> dict[str, StreamLogin]:
        if self._file is None:
            return {}
        try:
            return _LOGINS.validate_python(tomllib.loads(self._file.read_text(encoding="utf-8")))
        except (OSError, ValueError, ValidationError):
            # The text of such an error quotes the file.
            raise SourceUnavailable("The server's file of credentials for streams cannot be read.") from None
