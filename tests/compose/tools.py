"""Programs that check the deployment files; where one is missing, its tests are skipped and say so."""

import os
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = (ROOT / ".tools" / "usr" / "bin", ROOT / ".tools" / "compose", Path(sys.executable).parent)


def tool(name: str) -> str:
    """Path of a program, in `.tools` (see .ci/run), beside the interpreter or on PATH."""
    found = shutil.which(name, path=os.pathsep.join(map(str, PLACES))) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found
