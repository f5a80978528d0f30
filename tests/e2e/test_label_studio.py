"""The ML backend of examples/, spoken to as Label Studio does."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from testing.program import Program

BACKEND = Path(__file__).parents[2] / "examples" / "label_studio_backend.py"
CONFIG = """<View><Video name="film" value="$film" frameRate="$fps"/>
<TimelineLabels name="moves" toName="film"><Label value="cut"/></TimelineLabels></View>"""


class Files(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def backend(program: Program, clip: Path) -> Iterator[str]:
    """The backend beside the program, and a Label Studio that has `clip.mp4`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=clip.parent)) as studio:
        threading.Thread(target=studio.serve_forever, daemon=True).start()
        environment = {**os.environ, "LABEL_STUDIO_URL": f"http://127.0.0.1:{studio.server_port}"}
        command = [sys.executable, str(BACKEND), program.url, "0"]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                yield process.stdout.readline().split()[-1]
            finally:
                process.kill()
                studio.shutdown()


def test_the_backend_of_label_studio_predicts_the_events_of_a_task(backend: str) -> None:
    assert httpx.get(f"{backend}/health").json()["status"] == "UP"
    assert httpx.post(f"{backend}/setup", json={"project": "1", "schema": CONFIG}).is_success
    tasks = [{"id": 1, "data": {"film": "/clip.mp4", "fps": 25}}]
    response = httpx.post(f"{backend}/predict", json={"tasks": tasks, "label_config": CONFIG}, timeout=120)
    assert response.is_success, response.text
    [prediction] = response.json()["results"]
    assert prediction["model_version"].startswith("camera_motion:")
    for region in prediction["result"]:
        assert (region["from_name"], region["to_name"], region["type"]) == ("moves", "film", "timelinelabels")


def test_the_backend_of_label_studio_fetches_from_label_studio_only(backend: str) -> None:
    tasks = [{"id": 1, "data": {"film": "http://127.0.0.1:1/clip.mp4"}}]
    response = httpx.post(f"{backend}/predict", json={"tasks": tasks, "label_config": CONFIG})
    assert response.status_code == 500
    assert "only, not from http://127.0.0.1:1/clip.mp4" in response.json()["error"]
