"""Clients that the usual generators write from the OpenAPI document: they compile, and classify a video.

What they need is fetched from the package registries; where it cannot be had the tests are skipped.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.api.api_keys import hashed, new_key
from testing.program import Program

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

GENERATED = Path(__file__).parent / "generated"
PYTHON_GENERATOR = "openapi-python-client>=0.26"
SAID = re.compile(r"^2 \S+ succeeded container_not_allowed$", re.M)


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def key() -> str:
    return new_key()


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory, key: str) -> Iterator[Program]:
    """A program that lets one caller in."""
    entry = f'[[keys]]\nname = "generated"\nhash = "{hashed(key)}"\n'
    with Program(tmp_path_factory.mktemp("keyed"), VIDTR_API_KEYS=entry, VIDTR_ANONYMOUS="deny") as program:
        yield program


@pytest.fixture
def document(keyed: Program, tmp_path: Path) -> Path:
    path = tmp_path / "openapi.json"
    with keyed.client() as client:
        path.write_text(client.get("/openapi.json").text, encoding="utf-8")
    return path


def typescript(generated: Path, document: Path, generate: tuple[str, ...], *arguments: str | Path) -> str:
    """Install what `generated` names, generate, type-check, and run the program; what it says."""
    npm, node, folder = shutil.which("npm"), shutil.which("node"), document.parent
    if npm is None or node is None:
        pytest.skip("needs npm and node")
    for name in ("main.ts", "package.json", "tsconfig.json"):
        shutil.copy(generated / name, folder)
    if run(npm, "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", cwd=folder).returncode != 0:
        pytest.skip("the generator cannot be had")
    done = run(npm, "exec", generate[0], "--", *generate[1:], cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    compiled = run(npm, "exec", "tsc", cwd=folder)
    assert compiled.returncode == 0, compiled.stdout
    said = run(node, "build/main.js", *arguments, cwd=folder)
    return said.stdout + said.stderr


def test_a_generated_typescript_client_compiles_and_classifies(
    keyed: Program, document: Path, key: str, clip: Path
) -> None:
    generate = ("openapi-typescript", document.name, "-o", "api.ts")
    said = typescript(GENERATED, document, generate, clip, keyed.url, key)
    assert SAID.search(said), said


def test_a_client_of_a_second_typescript_generator_compiles_and_classifies(
    keyed: Program, document: Path, key: str, clip: Path
) -> None:
    generate = ("openapi-ts", "-i", document.name, "-o", "client", "-c", "@hey-api/client-fetch")
    said = typescript(GENERATED / "hey-api", document, generate, clip, keyed.url, key)
    assert SAID.search(said), said


def test_a_generated_python_client_type_checks_and_classifies(
    keyed: Program, document: Path, key: str, clip: Path, tmp_path: Path
) -> None:
    tools = tmp_path / "tools"
    installed = run(sys.executable, "-m", "pip", "install", "-q", "--target", tools, PYTHON_GENERATOR, cwd=tmp_path)
    if installed.returncode != 0:
        pytest.skip("the generator cannot be had")
    client = tmp_path / "client"
    generated = run(
        *(sys.executable, "-m", "openapi_python_client", "generate", "--path", document, "--meta", "none"),
        *("--output-path", client / "vidtr_client"),
        cwd=tmp_path,
        PYTHONPATH=str(tools),
    )
    assert generated.returncode == 0, generated.stdout + generated.stderr
    unnamed = [path.name for path in (client / "vidtr_client" / "models").glob("*.py") if "_type_" in path.name]
    assert not unnamed, "members of unions without a title"
    script = Path(shutil.copy(GENERATED / "main.py.txt", tmp_path / "main.py"))
    checked = run(
        *(sys.executable, "-m", "mypy", "--config-file=", "--follow-imports=silent", script),
        cwd=tmp_path,
        MYPYPATH=str(client),
    )
    assert checked.returncode == 0, checked.stdout
    done = run(
        sys.executable,
        script,
        clip,
        keyed.url,
        key,
        cwd=tmp_path,
        PYTHONPATH=os.pathsep.join((str(client), str(tools))),
    )
    assert SAID.search(done.stdout), done.stdout + done.stderr
