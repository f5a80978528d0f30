"""What a check of `vidtr doctor` finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from service.settings import Settings


@dataclass(frozen=True)
class Finding:
    """What one check found. `advice` says what to do; it is empty where all is well."""

    name: str
    state: Literal["ok", "warning", "failed"]
    detail: str
    advice: str = ""


Check = Callable[[Settings], Iterator[Finding]]
