"""Makes the environments of the peers: one each in `.peers`, over the project's own packages.

A peer brings its own packages where it needs other ones than the project; torch, PyAV and our packages are
those of the project, so that every side decodes and computes with the same files.

    python -m benchmarks.peers.environments [NAME …]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

FOLDER = Path(".peers")
PINS = {
    "fastapi": (),
    "litserve": ("litserve==0.2.19",),
    "bentoml": ("bentoml==1.4.40",),
    "ray": ("ray[serve]==2.60.0",),
    "pytriton": ("nvidia-pytriton==0.7.0",),
}


def python_of(name: str) -> Path:
    """The interpreter of a peer's environment, whether it is there or not."""
    return (FOLDER / name / "bin" / "python").absolute()


def missing() -> list[str]:
    """Peers whose environment is not complete."""
    return [name for name in PINS if not _marker(name).exists() or _marker(name).read_text() != _complete(name)]


def make(name: str) -> None:
    """Make one environment anew. Raises CalledProcessError where pip fails."""
    folder = FOLDER / name
    venv.create(folder, clear=True, with_pip=bool(PINS[name]))
    [site] = folder.glob("lib/python*/site-packages")
    # Behind the peer's own packages, not before them.
    (site / "project.pth").write_text(f"{sysconfig.get_path('purelib')}\n{Path.cwd()}\n")
    if PINS[name]:
        pip = [str(python_of(name)), "-m", "pip", "--disable-pip-version-check", "install", "-q", *PINS[name]]
        subprocess.run(pip, check=True)
    _marker(name).write_text(_complete(name))


def _marker(name: str) -> Path:
    return FOLDER / name / "COMPLETE"


def _complete(name: str) -> str:
    return " ".join((sys.version, *PINS[name]))


def main() -> None:
    """Make those that are asked for, or all that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PINS)}; else those missing")
    arguments = parser.parse_args()
    for name in arguments.names or missing():
        print(f"making {FOLDER / name}", flush=True)
        make(name)


if __name__ == "__main__":
    main()
