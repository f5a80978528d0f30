"""`vidtr verify` with the bundled model in this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner, Result

from service.cli.in_process import InProcess, classifier_in_process
from service.cli.main import app
from service.contracts import JobRequest
from service.settings import Settings
from service.signatures import Signer
from testing.range_server import RangeServer, Served
from testing.videos import write_video
from tests.fixtures.servers import SHIPPED_REPOSITORY

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4", 80, size=(96, 64))


@pytest.fixture(scope="module")
def run() -> Iterator[InProcess]:
    """Decode pool and engine, started once: every command would start its own."""
    with classifier_in_process(Settings(model_repository=SHIPPED_REPOSITORY)) as run:
        yield run


@pytest.fixture(scope="module")
def answer(run: InProcess, video: Path) -> str:
    """An answer of two windows with options of its own."""
    return run.classify(video, JobRequest(windows=2, top_k=3)).model_dump_json(exclude_none=True)


@pytest.fixture
def started(run: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command takes what runs already."""
    monkeypatch.setattr("service.cli.verify_command.engine", lambda *_, **__: nullcontext(run))


def verify(folder: Path, answer: str, video: Path, *more: str) -> Result:
    (folder / "answer.json").write_text(answer)
    arguments = ["verify", str(folder / "answer.json"), str(video), "--repository", str(SHIPPED_REPOSITORY), *more]
    return CliRunner(env={"COLUMNS": "300"}).invoke(app, arguments)


def test_an_answer_holds_for_its_video_with_the_options_that_it_names(tmp_path: Path, answer: str, video: Path) -> None:
    result = verify(tmp_path, answer, video)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("holds: camera_motion ")


def a_label(document: dict[str, Any]) -> None:
    last = document["predictions"][-1]
    last["label"] = "dissolve" if last["label"] != "dissolve" else "fade"


def a_frame(document: dict[str, Any]) -> None:
    document["windows"][1]["attention"][3]["time_s"] += 1 / 30


def weights(document: dict[str, Any]) -> None:
    document["model"]["weights_sha256"] = "0" * 64


def options(document: dict[str, Any]) -> None:
    document["provenance"]["options"]["windows"] = 3


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (a_label, "predictions["),
        (a_frame, "windows[1].attention[3].time_s: the answer says "),
        (weights, "model.weights_sha256"),
        (options, "windows, their number"),
    ],
)
def test_what_was_changed_is_named(tmp_path: Path, answer: str, video: Path, change: Change, said: str) -> None:
    document = json.loads(answer)
    change(document)
    result = verify(tmp_path, json.dumps(document), video)
    assert result.exit_code == 1
    assert said in result.stdout
    assert "does not hold" in result.stdout


def test_another_video_is_told_by_its_hash(tmp_path: Path, answer: str) -> None:
    other = write_video(tmp_path / "other.mp4", 81, size=(96, 64))
    result = verify(tmp_path, answer, other)
    assert result.exit_code == 1
    assert "the SHA-256 of the video: the answer says " in result.stdout


@pytest.mark.usefixtures("started")
def test_of_the_answers_of_a_run_the_one_about_the_video_is_checked(tmp_path: Path, answer: str, video: Path) -> None:
    other = json.loads(answer)
    other["provenance"]["video_sha256"] = "1" * 64
    failed = {"file": "broken.mp4", "error": {"code": "decode_failed", "detail": "It is broken."}}
    lines = [failed, {"file": "other.mp4", **other}, {"file": "moved.mp4", **json.loads(answer)}]
    for text in (json.dumps(lines), "\n".join(map(json.dumps, lines))):
        assert verify(tmp_path, text, video).exit_code == 0
    lone = verify(tmp_path, json.dumps([other, other]), video)
    assert lone.exit_code == 2
    assert "none of the 2 answers" in lone.stderr


@pytest.mark.usefixtures("started")
def test_the_state_of_a_job_has_its_answer_inside(tmp_path: Path, answer: str, video: Path) -> None:
    assert verify(tmp_path, json.dumps({"id": "x", "result": json.loads(answer)}), video).exit_code == 0


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"file": "a", "error": {"code": "b"}}', "no JSON"])
def test_a_file_without_an_answer_is_wrong_usage(tmp_path: Path, video: Path, text: str) -> None:
    result = verify(tmp_path, text, video)
    assert result.exit_code == 2
    assert "holds no answer" in result.stderr


def test_an_answer_of_an_earlier_release_is_told(tmp_path: Path, answer: str, video: Path) -> None:
    document = json.loads(answer)
    del document["provenance"]
    result = verify(tmp_path, json.dumps(document), video)
    assert result.exit_code == 2
    assert "does not say with which options" in result.stderr


@pytest.mark.usefixtures("started")
def test_a_version_that_is_gone_ends_with_the_reason(tmp_path: Path, answer: str, video: Path) -> None:
    document = json.loads(answer)
    document["model"]["version"] = "999"
    result = verify(tmp_path, json.dumps(document), video)
    assert result.exit_code == 1
    assert "unknown_model" in result.stderr


def test_the_webhook_of_a_request_is_left_out_of_its_answer(run: InProcess, video: Path) -> None:
    result = run.classify(video, JobRequest(webhook="https://example.com/secret"))
    assert result.provenance is not None
    assert result.provenance.options.webhook is None


# --- signatures ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer(Ed25519PrivateKey.generate())


@pytest.fixture
def key(tmp_path: Path, signer: Signer) -> Path:
    path = tmp_path / "public.pem"
    path.write_text(signer.public.pem)
    return path


@pytest.fixture(scope="module")
def signed(answer: str, signer: Signer) -> dict[str, Any]:
    document = json.loads(answer)
    return {**document, "signature": signer.sign(document)}


@pytest.mark.usefixtures("started")
def test_a_signed_answer_holds_and_says_with_which_key(
    tmp_path: Path, signed: dict[str, Any], video: Path, key: Path, signer: Signer
) -> None:
    for record in (signed, {"file": "moved.mp4", **signed}, {"seq": 1, "result": signed}):
        result = verify(tmp_path, json.dumps(record), video, "--key", str(key))
        assert result.exit_code == 0, result.output
        first, second = result.stdout.splitlines()
        assert first == f"the signature of job {signed['id']} holds: key {signer.public.id}"
        assert second.startswith("holds: camera_motion ")


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("change", [a_label, a_frame, weights, options])
def test_a_changed_answer_breaks_its_signature_too(
    tmp_path: Path, signed: dict[str, Any], video: Path, key: Path, signer: Signer, change: Change
) -> None:
    document = json.loads(json.dumps(signed))
    change(document)
    result = verify(tmp_path, json.dumps(document), video, "--key", str(key))
    assert result.exit_code == 1
    first, *_, last = result.stdout.splitlines()
    assert first.endswith(f"does not hold: the answer is not as the key {signer.public.id} has signed it")
    assert last.startswith("does not hold: ")


def unsigned(document: dict[str, Any], other: Signer) -> str:
    del document["signature"]
    return "does not hold: the answer has none"


def signed_by_another(document: dict[str, Any], other: Signer) -> str:
    del document["signature"]
    document["signature"] = other.sign(document)
    return f"does not hold: it is of the key {other.public.id}, and the known ones are "


def a_warning(document: dict[str, Any], other: Signer) -> str:
    document["warnings"] = [{"code": "few_frames", "detail": "None."}]
    return "does not hold: the answer is not as the key "


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("change", [unsigned, signed_by_another, a_warning])
def test_an_answer_that_holds_fails_with_a_signature_that_does_not(
    tmp_path: Path,
    signed: dict[str, Any],
    video: Path,
    key: Path,
    change: Callable[[dict[str, Any], Signer], str],
) -> None:
    document = json.loads(json.dumps(signed))
    said = change(document, Signer(Ed25519PrivateKey.generate()))
    result = verify(tmp_path, json.dumps(document), video, "--key", str(key))
    assert result.exit_code == 1
    first, second = result.stdout.splitlines()
    assert said in first
    assert second.startswith("holds: ")


@pytest.mark.usefixtures("started")
def test_a_signature_that_nobody_asked_about_is_said_to_be_unchecked(
    tmp_path: Path, signed: dict[str, Any], video: Path
) -> None:
    result = verify(tmp_path, json.dumps(signed), video)
    assert result.exit_code == 0
    assert "the signature is not checked" in result.stderr


def test_without_a_video_every_signature_of_the_file_is_checked(
    tmp_path: Path, signed: dict[str, Any], key: Path
) -> None:
    def checked(*documents: dict[str, Any]) -> tuple[int, list[str]]:
        (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, documents)))
        result = CliRunner().invoke(app, ["verify", str(tmp_path / "answers.jsonl"), "--key", str(key)])
        assert "nothing is computed again" in result.stderr
        return result.exit_code, result.stdout.splitlines()

    failed = {"file": "broken.mp4", "error": {"code": "decode_failed", "detail": "It is broken."}}
    status, lines = checked(signed, failed, signed)
    assert (status, len(lines)) == (0, 2)
    status, lines = checked(signed, {**signed, "coverage": 0.5}, signed)
    assert (status, ["does not hold" in line for line in lines]) == (1, [False, True, False])


def test_a_member_that_stands_twice_is_refused(tmp_path: Path, signed: dict[str, Any], key: Path) -> None:
    text = json.dumps(signed).replace('"coverage":', '"coverage": 0.0, "coverage":', 1)
    (tmp_path / "answer.json").write_text(text)
    result = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["verify", str(tmp_path / "answer.json"), "--key", str(key)])
    assert result.exit_code == 2
    assert "has the member 'coverage' more than once" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "name the video"),
        (["--key", "{answer}"], 2, "holds no public keys"),
        (["--keys-url", "http://127.0.0.1:1/jwks.json"], 3, "cannot be fetched"),
        (["--keys-url", "{server}/empty"], 2, "none of its 0 keys"),
        (["--keys-url", "{server}/text"], 2, "There are no keys at"),
        (["--keys-url", "{server}/gone"], 2, "the server answers 404"),
        (["--keys-url", "{server}/broken"], 3, "the server answers 503"),
        (["--keys-url", "ftp://example.com"], 2, "no address of a server"),
    ],
)
def test_keys_that_cannot_be_had_are_told(
    tmp_path: Path, signed: dict[str, Any], arguments: list[str], status: int, said: str
) -> None:
    answer = tmp_path / "answer.json"
    answer.write_text(json.dumps(signed))
    with RangeServer() as server:
        server.serve("/empty", Served(b'{"keys": []}'))
        server.serve("/text", Served(b"no keys"))
        server.serve("/broken", Served(b"", failing=lambda number: 503))
        given = [part.format(answer=answer, server=server.url) for part in arguments]
        result = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["verify", str(answer), *given])
    assert result.exit_code == status, result.output
    assert said in " ".join(result.stderr.split())


def test_a_video_that_is_gone_is_wrong_usage(tmp_path: Path, answer: str, video: Path) -> None:
    copy = tmp_path / "copy.mp4"
    shutil.copy(video, copy)
    copy.unlink()
    assert verify(tmp_path, answer, copy).exit_code == 2
