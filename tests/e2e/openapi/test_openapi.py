"""The OpenAPI document against the running program: schemathesis sends what it allows and what it forbids.

All of its checks are on but `max_response_time`, a limit in seconds: how fast the service answers is measured by
benchmarks, on a machine that does nothing else.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from service.api.api_keys import hashed, new_key
from testing.program import Program
from testing.videos import write_video
from tests.e2e.conftest import WEBHOOK_SECRET

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
EXAMPLES = os.environ.get("VIDTR_OPENAPI_EXAMPLES", "12")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("videos")
    write_video(directory / "one.mp4", 12, fps=12, size=(64, 48))
    write_video(directory / "two.mp4", 25, fps=25, size=(48, 64))
    return directory


@pytest.fixture(scope="module")
def keys() -> dict[str, str]:
    """Two callers, each with a key."""
    return {"alice": new_key(), "bob": new_key()}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory, keys: dict[str, str]) -> Iterator[Program]:
    """A program that lets nobody in without a key."""
    entries = "".join(f'[[keys]]\nname = "{name}"\nhash = "{hashed(key)}"\n' for name, key in keys.items())
    program = Program(
        tmp_path_factory.mktemp("keyed"),
        VIDTR_API_KEYS=entries,
        VIDTR_ANONYMOUS="deny",
        VIDTR_TORCH_THREADS="1",
        VIDTR_WEBHOOK_SECRET=WEBHOOK_SECRET,
    )
    with program:
        yield program


def examined(program: Program, directory: Path, videos: Path, *arguments: str) -> None:
    """Fails with the report of a run that found anything, or that had next to nothing classified."""
    before = succeeded(program)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--no-color", "--config-file", str(HERE / "schemathesis.toml")),
        *("run", f"{program.url}/openapi.json", "--checks", "all", "--continue-on-failure"),
        # A live stream that was ended is told about for a while, and in sequences of calls no setting of an operation
        # says so. That what was deleted is gone has tests of its own, for jobs, batches and uploads.
        *("--exclude-checks", "use_after_free"),
        *("--max-examples", EXAMPLES, "--generation-deterministic"),
        # With few examples an unlucky draw filters most of those of an operation.
        *("--suppress-health-check", "filter_too_much"),
        *arguments,
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(HERE.parents[2]),
        "SCHEMATHESIS_HOOKS": "tests.e2e.openapi.hooks",
        "VIDEOS": str(videos),
    }
    run = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, errors="replace")
    report = run.stdout + run.stderr
    assert run.returncode == 0, report
    assert re.search(r"Tested: +28$", report, re.M), report
    assert succeeded(program) - before > 10, "hardly any of the valid uploads was classified"


def succeeded(program: Program) -> float:
    """Jobs that the program has finished."""
    with program.client() as client:
        metrics = client.get("/metrics").text
    found = re.search(r'^vidtr_jobs_total\{state="succeeded"\} (\S+)$', metrics, re.M)
    return float(found[1]) if found else 0.0


def test_the_program_keeps_to_its_document(program: Program, tmp_path: Path, videos: Path) -> None:
    examined(program, tmp_path, videos)


def test_a_program_with_keys_keeps_to_its_document_and_its_callers_apart(
    keyed: Program, tmp_path: Path, videos: Path, keys: dict[str, str]
) -> None:
    callers = [
        {"name": name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {key}"}]}
        for name, key in keys.items()
    ]
    (tmp_path / "callers.yaml").write_text(yaml.safe_dump({"auth": callers}))
    examined(keyed, tmp_path, videos, "--auth-wfc", str(tmp_path / "callers.yaml"))
