"""An ML backend for Label Studio: asks the service for the events of a video and gives them as predictions.

Usage: python label_studio_backend.py [SERVICE] [PORT]. Connect it in Label Studio under Settings, Model, with the
address that it prints. The labeling configuration stands in docs/api.md (Label Studio). Needs `pip install httpx`.
Set VIDTR_API_KEY for a service with keys, and LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY, from where videos that were
uploaded to Label Studio are fetched. The port is for Label Studio alone: others could have it fetch from there.
"""

import json
import os
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree

import httpx

SERVICE = "http://localhost:8080"
MAX_BYTES = 1024 * 1024
OPTIONS = {"windows": "all", "attention": "none"}


def tags(config: str) -> tuple[str, str, str]:
    """Of a labeling configuration the names of its timeline and video, and the field of a task that has the video."""
    root = ElementTree.fromstring(config)  # noqa: S314 - from Label Studio itself; entities of others are not loaded
    timeline, video = root.find(".//TimelineLabels"), root.find(".//Video")
    if timeline is None or video is None:
        raise ValueError("the labeling configuration has no <TimelineLabels> for a <Video>")
    return timeline.attrib["name"], video.attrib["name"], video.attrib["value"].removeprefix("$")


def fetched(url: str, target: Path) -> None:
    """Fetch a video from Label Studio, and from nowhere else."""
    studio = os.environ.get("LABEL_STUDIO_URL", "http://localhost:8081")
    address = urljoin(studio, url)
    if urlsplit(address)[:2] != urlsplit(studio)[:2]:
        raise ValueError(f"videos are fetched from {studio} only, not from {address}")
    token = os.environ.get("LABEL_STUDIO_API_KEY")
    headers = {"Authorization": f"Token {token}"} if token else {}
    with httpx.stream("GET", address, headers=headers, timeout=60) as response, target.open("wb") as file:
        response.raise_for_status()
        for chunk in response.iter_bytes():
            file.write(chunk)


def document(response: httpx.Response) -> Any:
    """What the service answers; ValueError in its own words where that is a problem."""
    if response.is_error:
        raise ValueError(f"{response.status_code} {response.text}")
    return response.json()


def prediction(service: str, task: dict[str, Any], config: str) -> dict[str, Any]:
    """What the service says of the video of a task, under the names of the configuration."""
    control, source, field = tags(config)
    key = os.environ.get("VIDTR_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with (
        tempfile.TemporaryDirectory() as folder,
        httpx.Client(base_url=service, headers=headers, timeout=600) as client,
    ):
        video = Path(folder) / "video"
        fetched(task["data"][field], video)
        with video.open("rb") as file:
            answer = document(client.post("/v1/classify", files={"file": file}, params=OPTIONS))
        path = f"/v1/jobs/{answer['id']}/result"
        [exported] = document(client.get(path, params={"format": "label-studio"}))
    [found] = exported["predictions"]
    for region in found["result"]:
        region.update(from_name=control, to_name=source)
    return dict(found)


class Backend(BaseHTTPRequestHandler):
    """The protocol of ML backends: `/health`, `/setup`, `/predict`."""

    service = SERVICE

    def do_GET(self) -> None:
        self.answer(200, {"status": "UP", "model_class": "vidtr"})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if not 0 < length <= MAX_BYTES:
            self.answer(413, {"error": f"a request has 1 to {MAX_BYTES} bytes, not {length}"})
            return
        asked = json.loads(self.rfile.read(length))
        if self.path == "/setup":
            self.answer(200, {"model_version": "vidtr"})
        elif self.path == "/predict":
            self.predict(asked)
        else:
            # `/webhook` and the like: this backend does not train.
            self.answer(200, {})

    def predict(self, asked: dict[str, Any]) -> None:
        try:
            found = [prediction(self.service, task, asked["label_config"]) for task in asked["tasks"]]
        except (httpx.HTTPError, ValueError, KeyError) as error:
            self.answer(500, {"error": f"{type(error).__name__}: {error}"})
            return
        self.answer(200, {"results": found})

    def answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Nothing: Label Studio shows what failed."""


def main(service: str = SERVICE, port: str = "9090") -> None:
    Backend.service = service
    with ThreadingHTTPServer(("127.0.0.1", int(port)), Backend) as server:
        print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
