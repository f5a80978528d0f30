"""Answers of a program that signs: every way to them, other people's tools, a key that is replaced."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from service.signatures import Signer, check_signature
from service.signing_keys import VerificationKey, keys_of_set, read_signing_key
from testing.program import Program, upload
from testing.range_server import RangeServer, Served
from tests.e2e.test_event_stream import told
from tests.fixtures.servers import REPOSITORY_ROOT as ROOT

KEY_SET = "/.well-known/jwks.json"


def vidtr(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.cli.main", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}, timeout=120
    )


def signing(directory: Path, key: Path, public: Path | None = None) -> Program:
    return Program(
        directory,
        settings={
            "VIDTR_SIGNING_KEY_FILE": str(key),
            **({} if public is None else {"VIDTR_SIGNING_PUBLIC_KEYS_FILE": str(public)}),
            "VIDTR_RESULT_CACHE_S": "300",
            "VIDTR_SOURCE_HOSTS": "127.0.0.1",
            "VIDTR_SOURCE_PRIVATE_TARGETS": "true",
            "VIDTR_TORCH_THREADS": "1",
        },
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("signing")


@pytest.fixture(scope="module")
def key(folder: Path) -> Path:
    """The private key, with the public one beside it, as `vidtr keys signing` makes them."""
    made = vidtr("keys", "signing", folder / "key.pem")
    assert made.returncode == 0, made.stderr
    (folder / "public.pem").write_text(made.stdout)
    return folder / "key.pem"


@pytest.fixture(scope="module")
def program(folder: Path, key: Path) -> Iterator[Program]:
    with signing(folder, key) as program:
        yield program


@pytest.fixture(scope="module")
def answer(program: Program, clip: Path) -> dict[str, Any]:
    with program.client() as client:
        answer: dict[str, Any] = upload(client, clip, windows=2, top_k=3).json()
    return answer


def listed(client: httpx.Client) -> tuple[VerificationKey, ...]:
    reply = client.get(KEY_SET)
    assert (reply.status_code, reply.headers["Cache-Control"]) == (200, "public, max-age=300")
    return keys_of_set(reply.json())


def test_every_way_to_an_answer_gives_the_same_with_a_signature_that_holds(
    client: httpx.Client, clip: Path, answer: dict[str, Any]
) -> None:
    check = check_signature(answer, listed(client))
    assert check.holds, check.detail
    again = upload(client, clip, windows=2, top_k=3)
    assert again.headers["X-Cache"] == "hit"
    assert again.json() == answer
    assert client.get(f"/v1/jobs/{answer['id']}").json()["result"] == answer
    assert dict(told(client, clip, windows="2", top_k="3"))["result"] == answer


def lines_of_a_batch(client: httpx.Client, clip: Path) -> Iterator[dict[str, Any]]:
    """The results of a batch of one video, each time that the next is asked for."""
    with RangeServer() as server:
        manifest = json.dumps({"source": {"url": server.serve("/clip.mp4", Served(clip.read_bytes()))}})
        headers = {"Content-Type": "application/jsonl"}
        links = client.post("/v1/batches", content=manifest, headers=headers).raise_for_status().json()["links"]
        end = time.monotonic() + 60
        while client.get(links["self"]).json()["status"] != "completed":
            assert time.monotonic() < end
            time.sleep(0.2)
        while True:
            [line] = client.get(links["results"]).text.splitlines()
            yield json.loads(line)


def test_the_results_of_a_batch_are_signed_and_those_of_an_earlier_release_stay_so(
    program: Program, client: httpx.Client, clip: Path, key: Path
) -> None:
    lines = lines_of_a_batch(client, clip)
    answer = next(lines)["result"]
    assert check_signature(answer, listed(client)).holds
    # As a release has signed and kept it that did not know this option.
    del answer["provenance"]["options"]["embedding"], answer["signature"]
    answer["signature"] = Signer(read_signing_key(key)).sign(answer)
    kept = json.dumps({"v": 1, "state": "succeeded", "result": answer})
    [keys] = [keys for keys in program.keys if keys.outcome(answer["id"])]
    with redis.Redis.from_url(program.redis_url) as server:
        assert server.set(keys.outcome(answer["id"]), kept, xx=True, keepttl=True)
    assert next(lines)["result"] == answer
    assert client.get(f"/v1/jobs/{answer['id']}").json()["result"] == answer


def test_the_command_checks_signature_and_answer_with_the_keys_of_the_service(
    program: Program, clip: Path, answer: dict[str, Any], tmp_path: Path
) -> None:
    said = tmp_path / "answer.json"
    arguments = ("verify", said, clip, "--server", program.url, "--keys-url", program.url + KEY_SET)
    said.write_text(json.dumps(answer, indent=2))
    held = vidtr(*arguments)
    assert held.returncode == 0, held.stderr
    assert held.stdout.startswith(f"the signature of job {answer['id']} holds: key ")
    assert "\nholds: camera_motion " in held.stdout
    # What computing again does not look at.
    said.write_text(json.dumps({**answer, "warnings": [{"code": "few_frames", "detail": "None."}]}))
    changed = vidtr(*arguments)
    assert changed.returncode == 1
    assert "does not hold: the answer is not as the key " in changed.stdout
    assert "\nholds: camera_motion " in changed.stdout


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")
def test_the_documented_lines_and_openssl_verify_an_answer_and_refuse_a_changed_one(
    client: httpx.Client, answer: dict[str, Any], folder: Path, key: Path, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    chapter = page.partition("## Signed answers\n")[2].partition("\n## ")[0]
    with_library, to_files = re.findall(r"^```python\n(.*?)^```", chapter, re.M | re.S)
    [command] = re.findall(r"^\$ (openssl .*)$", chapter, re.M)
    (tmp_path / "jwks.json").write_text(client.get(KEY_SET).text)
    shutil.copy(folder / "public.pem", tmp_path)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False)

    for said, status in ((answer, 0), ({**answer, "coverage": 0.25}, 1)):
        (tmp_path / "answer.json").write_text(json.dumps(said, indent=1))
        library = run(sys.executable, "-W", "ignore", "-c", with_library)
        assert library.returncode == status, library.stderr
        assert ("InvalidSignatureError" in library.stderr) == bool(status)
        prepared = with_library.replace("jwt.PyJWS()", "# ") + to_files
        assert run(sys.executable, "-W", "ignore", "-c", prepared).returncode == 0
        done = run(*command.split())
        assert done.returncode == status, done.stderr
        assert ("Signature Verified Successfully" in done.stdout) == (not status)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")
def test_an_answer_of_a_key_that_was_replaced_holds_after_the_restart(
    tmp_path: Path, clip: Path, key: Path, folder: Path
) -> None:
    with signing(tmp_path, key) as program, program.client() as client:
        old = upload(client, clip, top_k=1).json()
    fresh = tmp_path / "fresh.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", fresh], check=True)
    fresh.chmod(0o600)
    with signing(tmp_path, fresh, folder / "public.pem") as program:
        with program.client() as client:
            keys = listed(client)
            new = upload(client, clip, top_k=2).json()
            assert client.get(f"/v1/jobs/{old['id']}").json()["result"] == old
        before, now = check_signature(old, keys), check_signature(new, keys)
        assert (before.holds, now.holds) == (True, True), (before.detail, now.detail)
        assert [now.key, before.key] == [key.id for key in keys]
        assert check_signature(new, keys[1:]).detail.startswith(f"it is of the key {now.key}, and the known ones are")


@pytest.mark.parametrize("role", ["worker", "api"])
def test_a_process_without_its_key_does_not_start_and_names_the_file(tmp_path: Path, role: str) -> None:
    gone = tmp_path / "gone.pem"
    nowhere = {"VIDTR_PORT": "0", "VIDTR_REDIS_URL": "redis://127.0.0.1:1"}
    done = vidtr(role, **nowhere, VIDTR_SIGNING_KEY_FILE=str(gone))
    assert done.returncode != 0
    # A terminal's width breaks a line within a long path.
    said = "".join(f"{done.stdout}{done.stderr}".split())
    assert f"invalid_signing_key:Thefileofkeys{gone}cannotberead" in said
