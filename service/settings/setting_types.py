"""What the groups of settings share."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints
from pydantic_settings import NoDecode

CommaList = Annotated[tuple[str, ...], NoDecode]
MIB = 1024 * 1024
# An address to which a path is added.
HttpUrlText = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#@]+$")]
