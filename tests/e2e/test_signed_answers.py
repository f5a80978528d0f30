"""Answers of a program that signs: every way to them, other people's tools, a key that is replaced."""

from __future__ import annotations

import base64
import json
import os
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
import rfc8785

from service.signatures import Signer, check_signature
from service.signing_keys import VerificationKey, keys_of_set, read_signing_key
from testing.program import Program, upload
from testing.range_server import RangeServer, Served
from tests.e2e.test_event_stream import told

KEY_SET = "/.well-known/jwks.json"


def vidtr(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.cli.main", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}, timeout=120
    )


def signing(directory: Path, key: Path, public: Path | None = None) -> Program:
    return Program(
        directory,
        VIDTR_SIGNING_KEY_FILE=str(key),
        **({} if public is None else {"VIDTR_SIGNING_PUBLIC_KEYS_FILE": str(public)}),
        VIDTR_RESULT_CACHE_S="300",
        VIDTR_SOURCE_HOSTS="127.0.0.1",
        VIDTR_SOURCE_PRIVATE_TARGETS="true",
        VIDTR_TORCH_THREADS="1",
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
    program = signing(folder, key)
    try:
        program.start()
        yield program
    finally:
        program.stop()


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
def test_openssl_verifies_an_answer_with_the_public_key(
    answer: dict[str, Any], folder: Path, key: Path, tmp_path: Path
) -> None:
    header, _, value = answer["signature"].partition("..")
    payload = rfc8785.dumps({name: member for name, member in answer.items() if name != "signature"})
    (tmp_path / "signed").write_bytes(header.encode() + b"." + base64.urlsafe_b64encode(payload).rstrip(b"="))
    (tmp_path / "value").write_bytes(base64.urlsafe_b64decode(value + "=="))
    command = "openssl pkeyutl -verify -rawin -in signed -sigfile value -pubin -inkey".split()
    done = subprocess.run([*command, folder / "public.pem"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Signature Verified Successfully" in done.stdout


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")
def test_an_answer_of_a_key_that_was_replaced_holds_after_the_restart(
    tmp_path: Path, clip: Path, key: Path, folder: Path
) -> None:
    program = signing(tmp_path, key)
    program.start()
    with program.client() as client:
        old = upload(client, clip, top_k=1).json()
    program.stop()
    fresh = tmp_path / "fresh.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", fresh], check=True)
    fresh.chmod(0o600)
    program = signing(tmp_path, fresh, folder / "public.pem")
    try:
        program.start()
        with program.client() as client:
            keys = listed(client)
            new = upload(client, clip, top_k=2).json()
            assert client.get(f"/v1/jobs/{old['id']}").json()["result"] == old
        before, now = check_signature(old, keys), check_signature(new, keys)
        assert (before.holds, now.holds) == (True, True)
        assert [now.key, before.key] == [key.id for key in keys]
        assert check_signature(new, keys[1:]).detail.startswith(f"it is of the key {now.key}, and the known ones are")
    finally:
        program.stop()


@pytest.mark.parametrize("role", ["worker", "api"])
def test_a_process_without_its_key_does_not_start_and_names_the_file(tmp_path: Path, role: str) -> None:
    gone = tmp_path / "gone.pem"
    nowhere = {"VIDTR_PORT": "0", "VIDTR_REDIS_URL": "redis://127.0.0.1:1"}
    done = vidtr(role, **nowhere, VIDTR_SIGNING_KEY_FILE=str(gone))
    assert done.returncode != 0
    assert f"invalid_signing_key: The file of keys {gone} cannot be read" in " ".join(
        f"{done.stdout}{done.stderr}".split()
    )
