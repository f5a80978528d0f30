"""The client as a package: what it needs, how it is typed, that its two faces are one."""

import inspect
import subprocess
import sys
from pathlib import Path

from service.client import AsyncClient, Client, Options
from service.contracts import JobRequest

ROOT = Path(__file__).parents[3]

# Everything that a distribution of the client alone would not install.
BLOCKED = (
    "import sys\n"
    "blocked = {'av', 'fastapi', 'numpy', 'prometheus_client', 'redis', 'starlette', 'structlog', 'torch',"
    " 'tritonclient', 'uvicorn', 'pydantic_settings', 'limits', 'safetensors', 'google'}\n"
    "class Block:\n"
    "    def find_spec(self, name, path=None, target=None):\n"
    "        if name.partition('.')[0] in blocked:\n"
    "            raise ModuleNotFoundError(name)\n"
    "sys.meta_path.insert(0, Block())\n"
)

SNIPPET = """
import asyncio
from pathlib import Path

from service.client import AsyncClient, Client, Progress, Retry, TemporaryError, VideoError


def show(progress: Progress) -> None:
    print(progress.stage, progress.done, progress.total)


def main(path: Path) -> list[tuple[str, float]]:
    with Client("http://localhost:8080", api_key="k", retry=Retry(for_s=60)) as client:
        try:
            result = client.classify(path, windows="all", top_k=3, progress=show)
        except VideoError as error:
            print(error.code, error.detail, error.limit, error.actual)
            raise
        except TemporaryError as error:
            print(error.retry_after_s)
            raise
        job = client.submit(b"...", crops=3)
        for event in client.events(job.id):
            print(event.status.value, event.clips_done / event.clips_total)
        client.cancel(job.id)
        frames = result.windows[0].attention or ()
        print([frame.time_s for frame in frames], [model.labels[0] for model in client.models()])
        return [(prediction.label, prediction.score) for prediction in result.predictions]


async def many(paths: list[Path]) -> list[str]:
    async with AsyncClient("http://localhost:8080") as client:
        results = await asyncio.gather(*(client.classify(path) for path in paths))
        async for job in client.jobs():
            print(job.id)
        return [result.predictions[0].label for result in results]
"""

WRONG = """
from service.client import Client

client = Client("http://localhost:8080")
client.classify("clip.mp4", windows="some")
client.classify("clip.mp4", colour=1)
client.classify(3)
client.job("x").nothing
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def mypy(tmp_path: Path, code: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "snippet.py").write_text(code)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        "--cache-dir",
        str(ROOT / ".mypy_cache" / "u"),
    ]
    return subprocess.run(
        [*command, "snippet.py"],
        cwd=tmp_path,
        env={"MYPYPATH": "", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_can_be_imported_without_what_the_server_needs() -> None:
    done = python(BLOCKED + "import service.client; service.client.Client('http://localhost').close()")
    assert done.returncode == 0, done.stderr


def test_the_block_of_that_test_blocks() -> None:
    assert "ModuleNotFoundError" in python(BLOCKED + "import numpy").stderr


def test_a_strict_type_checker_accepts_a_users_program(tmp_path: Path) -> None:
    done = mypy(tmp_path, SNIPPET)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_strict_type_checker_refuses_wrong_calls(tmp_path: Path) -> None:
    done = mypy(tmp_path, WRONG)
    assert "Found 4 errors" in done.stdout, done.stdout + done.stderr


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    def methods(cls: type) -> dict[str, list[str]]:
        found = inspect.getmembers(cls, inspect.isfunction)
        return {name: list(inspect.signature(f).parameters) for name, f in found if not name.startswith("_")}

    assert methods(Client) == methods(AsyncClient)


def test_the_options_are_those_of_a_request() -> None:
    assert set(Options.__annotations__) == set(JobRequest.model_fields)
