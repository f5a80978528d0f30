"""Folders that settings name."""

from __future__ import annotations

import os
from pathlib import Path

import typer


def usable_folder(setting: str, path: Path) -> None:
    """Make the folder where it is missing. Raises BadParameter with the name of the setting where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"setting {setting}: {path} cannot be a folder: {error.strerror}.") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"setting {setting}: {path} cannot be written to.")
