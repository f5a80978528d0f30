"""The README's commands, run as they stand."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.program import Program

ROOT = Path(__file__).parents[2]


def blocks(page: Path) -> list[str]:
    """The page's executable examples."""
    return re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


EXAMPLES = [
    pytest.param(block, id=f"{page.name}-{i}")
    for page in (ROOT / "README.md", ROOT / "docs" / "api.md")
    for i, block in enumerate(blocks(page))
]


@pytest.mark.parametrize("block", EXAMPLES)
def test_the_example_works(program: Program, clip: Path, tmp_path: Path, block: str) -> None:
    shutil.copy(clip, tmp_path / "clip.mp4")
    # The documented port may be taken on the machine that runs the tests.
    script = block.replace("localhost:8080", f"localhost:{program.port}")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "urn:vidtr:error" not in done.stdout


def test_the_readme_has_examples() -> None:
    assert len(blocks(ROOT / "README.md")) >= 3
