"""The programs of examples/, run as their readers run them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import pytest

from testing.program import Program, upload
from tests.compose.tools import tool
from tests.e2e.conftest import WEBHOOK_SECRET

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run(
    *command: object, timeout: float = 120, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    words = [str(part) for part in command]
    return subprocess.run(words, capture_output=True, text=True, timeout=timeout, check=False, cwd=cwd, env=env)


def test_the_requests_of_curl_work(program: Program, clip: Path) -> None:
    done = run(EXAMPLES / "curl.sh", clip, program.url)
    assert done.returncode == 0, done.stderr
    answer, job, refusal = done.stdout.splitlines()
    assert len(json.loads(answer)["windows"]) == 2
    assert job.endswith("has succeeded")
    assert refusal == "text is refused as container_not_allowed"


def test_the_python_client_prints_a_line_for_each_window(program: Program, clip: Path) -> None:
    done = run(sys.executable, EXAMPLES / "python_client.py", clip, program.url)
    assert done.returncode == 0, done.stderr
    assert all(re.search(r"s to +[\d.]+ s  \w+  [01]\.\d\d$", line) for line in done.stdout.splitlines())
    assert "upload: " in done.stderr


def test_the_python_client_tells_a_video_that_cannot_be_used(program: Program, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    done = run(sys.executable, EXAMPLES / "python_client.py", tmp_path / "text.mp4", program.url)
    assert done.returncode == 1
    assert "container_not_allowed" in done.stdout


@contextmanager
def receiver() -> Iterator[tuple[str, Iterator[str]]]:
    """The receiver of the example on a free port: its URL, and the lines that it prints."""
    shown = run(
        *(sys.executable, "-m", "service.cli.main", "keys", "webhook-secret", ""),
        env={**os.environ, "VIDTR_WEBHOOK_SECRET": WEBHOOK_SECRET},
    )
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / "webhook_receiver.py", "0"],
        env={**os.environ, "VIDTR_WEBHOOK_SECRET": shown.stdout.strip()},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1], process.stdout
        finally:
            process.kill()


def test_the_receiver_takes_the_webhook_of_a_job(client: httpx.Client, clip: Path) -> None:
    with receiver() as (url, lines):
        job = upload(client, clip, webhook=url).json()["id"]
        assert next(lines).split() == ["job.succeeded", job]


def test_the_receiver_refuses_a_message_that_nobody_signed() -> None:
    with receiver() as (url, _):
        response = httpx.post(url, json={"type": "job.succeeded"}, headers={"webhook-id": "1"})
    assert response.status_code == 401


def test_a_network_of_ones_own_is_served_from_its_folder(clip: Path, tmp_path: Path) -> None:
    written = run(sys.executable, "-W", "ignore", EXAMPLES / "own_model.py", tmp_path / "models")
    assert written.returncode == 0, written.stderr
    done = run(
        *(sys.executable, "-m", "service.cli.main", "classify", "--repository", tmp_path / "models", "--json", clip),
        env={**os.environ, "VIDTR_DEFAULT_MODEL": "brightness"},
    )
    assert done.returncode == 0, done.stderr
    [answer] = json.loads(done.stdout)
    assert {each["label"] for each in answer["predictions"]} == {"dark", "bright"}


class Bucket(BaseHTTPRequestHandler):
    """Lists and gives objects as S3 does, one key a page."""

    objects: dict[str, bytes]

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.send_response(200)
        self.end_headers()
        if parts.path != "/":
            self.wfile.write(self.objects[unquote(parts.path).lstrip("/")])
            return
        names = sorted(self.objects)
        at = int(parse_qs(parts.query).get("continuation-token", ["0"])[0])
        more = f"<NextContinuationToken>{at + 1}</NextContinuationToken>" if at + 1 < len(names) else ""
        self.wfile.write(
            f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Contents><Key>{names[at]}</Key>'
            f"</Contents>{more}</ListBucketResult>".encode()
        )

    def log_message(self, *arguments: object) -> None:
        pass


def test_all_videos_of_a_bucket_are_classified_once(program: Program, clip: Path, tmp_path: Path) -> None:
    video = clip.read_bytes()
    Bucket.objects = {"a/one.mp4": video, "a/t w.mp4": video, "broken.mp4": b"no video", "notes.txt": b"text"}
    out = tmp_path / "out.jsonl"
    with ThreadingHTTPServer(("127.0.0.1", 0), Bucket) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = (sys.executable, EXAMPLES / "bucket.py", f"http://127.0.0.1:{server.server_port}", out, program.url)
        first, lines = run(*command), out.read_text().splitlines()
        again = run(*command)
        server.shutdown()
    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    answers = {line["key"]: line for line in map(json.loads, lines)}
    assert set(answers) == {"a/one.mp4", "a/t w.mp4", "broken.mp4"}
    assert answers["broken.mp4"]["error"] == "container_not_allowed"
    assert all(len(answers[key]["predictions"]) == 3 for key in ("a/one.mp4", "a/t w.mp4"))
    assert out.read_text().splitlines() == lines


@pytest.mark.slow
def test_the_typescript_client_compiles_and_works(program: Program, clip: Path, tmp_path: Path) -> None:
    npm, node = tool("npm"), tool("node")
    for path in (EXAMPLES / "typescript").iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    if run(npm, "install", "--silent", cwd=tmp_path).returncode != 0:
        pytest.skip("the TypeScript compiler cannot be had")
    compiled = run(npm, "exec", "tsc", cwd=tmp_path)
    assert compiled.returncode == 0, compiled.stdout
    done = run(node, "build/main.js", clip, program.url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the job has its result" in done.stdout
    assert "text is refused as container_not_allowed" in done.stdout
