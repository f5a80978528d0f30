"""The runnable examples of README, CONTRIBUTING and the documentation, run as they stand.

Runnable are blocks marked `sh` or `python run`; the others show what cannot be run here (`console`, `python`, ...).
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from testing.program import Program

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = {"sh": ["bash", "-euo", "pipefail"], "python run": [sys.executable]}


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of the page's runnable examples."""
    return re.findall(r"^```(sh|python run)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


EXAMPLES = [
    pytest.param(language, text, id=f"{page.stem}-{i}")
    for page in PAGES
    for i, (language, text) in enumerate(blocks(page))
]


@pytest.mark.parametrize(("language", "text"), EXAMPLES)
def test_the_example_works(program: Program, clip: Path, tmp_path: Path, language: str, text: str) -> None:
    shutil.copy(clip, tmp_path / "clip.mp4")
    (tmp_path / "model_repository").symlink_to(ROOT / "model_repository")
    # The documented port may be taken on the machine that runs the tests.
    script = text.replace("localhost:8080", f"localhost:{program.port}")
    # From a file, because TorchScript reads the source of what it compiles.
    (tmp_path / "example").write_text(script, encoding="utf-8")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [*COMMANDS[language], "example"],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "urn:vidtr:error" not in done.stdout


@pytest.mark.parametrize(
    ("page", "least"),
    [("README.md", 4), ("CONTRIBUTING.md", 3), ("docs/api.md", 5), ("docs/client.md", 5), ("docs/start.md", 3)],
)
def test_a_page_has_its_examples(page: str, least: int) -> None:
    assert len(blocks(ROOT / page)) >= least
