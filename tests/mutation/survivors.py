"""The mutants that no test can kill, each with its reason, in `survivors.toml`."""

from __future__ import annotations

import tomllib
from pathlib import Path

FILE = Path(__file__).with_name("survivors.toml")


def accepted() -> dict[tuple[str, str, str], str]:
    """Reasons by the mutants' ids."""
    listed = tomllib.loads(FILE.read_text()).get("survivor", [])
    return {(one["script"], one["change"], one["line"]): one["reason"] for one in listed}
