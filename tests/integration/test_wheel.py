"""The wheel holds all that the program reads beside its code."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
READ = """
from pathlib import Path
import service.queue
from service.model.labels import read_labels
from service.queue.scripts import load

folder = Path(service.queue.__path__[0])
print(folder)
print(len([load(file.stem).text for file in (folder / "lua").glob("*.lua")]), len(read_labels("k400")))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [file] = folder.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def files_of(package: Path) -> set[str]:
    return {
        file.relative_to(package).as_posix()
        for file in package.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    assert files_of(wheel / "service") == files_of(ROOT / "service")


def test_scripts_and_labels_are_read_from_the_wheel(wheel: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    read = subprocess.run(
        [sys.executable, "-P", "-c", READ], env=environment, cwd=wheel, check=True, capture_output=True, text=True
    )
    folder, counts = read.stdout.splitlines()
    assert Path(folder).is_relative_to(wheel)
    scripts = len(list((ROOT / "service" / "queue" / "lua").glob("*.lua")))
    assert counts == f"{scripts} 400"
