"""`evidence=causal` through the running program: the bundled model, its queue, its workers and its clients."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from service.aggregate import probabilities
from service.cli.main import app
from service.client import AsyncClient, Client
from service.contracts import JobRequest, JobResult, WindowEvidence
from service.evidence import Kept, Values, evidence, variants
from service.inference.torchscript import TorchScriptBackend, TorchScriptConfig
from service.settings import Settings
from service.video.clips import decode_file
from service.video.config import VideoLimits
from testing.program import Program, Size, upload
from tests.e2e.test_classify import moving_camera
from tests.fixtures.servers import MODEL_REPOSITORY

SETS = 256
MODEL = "camera_motion"


@pytest.fixture(scope="module")
def pan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving_camera(tmp_path_factory.mktemp("pan") / "pan.mp4", "pan_left")


def causes(response: httpx.Response) -> list[WindowEvidence]:
    assert response.status_code == 200, response.text
    found = [window.evidence for window in JobResult.model_validate_json(response.content).windows]
    return [cause for cause in found if cause is not None]


def by_brute_force(video: Path, label: str, scratch: Path) -> Values:
    """The contributions of the frames of a video's one window: the model by itself, over all sets of frames."""
    settings = Settings(_env_file=None, model_repository=MODEL_REPOSITORY)

    async def values() -> Values:
        backend = TorchScriptBackend(TorchScriptConfig(MODEL_REPOSITORY, threads=1))
        await backend.start()
        try:
            [spec] = [one for one in await backend.models() if one.name == MODEL]
            decode_file(video, scratch, spec.clip, JobRequest(windows=1), settings.subset(VideoLimits))
            clip = np.fromfile(scratch, np.uint8).reshape(spec.clip_shape)
            scores: dict[bytes, float] = {}
            for number in range(SETS):
                kept = np.array([bool(number >> t & 1) for t in range(spec.frames)])
                outputs = await backend.infer(spec.name, spec.version, variants(clip, kept[None]))
                score = probabilities(outputs.logits[0].astype(np.float64), spec.activation)
                scores[kept.tobytes()] = float(score[spec.labels.index(label)])
        finally:
            await backend.close()

        def value(kept: Kept) -> Values:
            return np.array([scores[one.tobytes()] for one in kept])

        return evidence(value, spec.frames).contributions

    return asyncio.run(values())


def test_the_evidence_of_the_bundled_model_is_that_of_a_search_over_all_sets(
    client: httpx.Client, pan: Path, tmp_path: Path
) -> None:
    response = upload(client, pan, windows=1, evidence="causal")
    [cause] = causes(response)
    got = [frame.contribution for frame in cause.frames]
    np.testing.assert_allclose(got, by_brute_force(pan, cause.label, tmp_path / "clip"), atol=1e-4)
    assert sum(got) == pytest.approx(cause.score - cause.still_score, abs=1e-4)
    assert cause.error == 0
    answer = JobResult.model_validate_json(response.content)
    assert cause.label == answer.windows[0].predictions[0].label
    assert answer.evidence_cost is not None
    assert answer.evidence_cost.forwards == cause.forwards == SETS
    assert answer.evidence_cost.engine_ms > 0


def test_an_answer_is_otherwise_the_same_with_evidence(client: httpx.Client, pan: Path) -> None:
    plain, with_it = (upload(client, pan, windows=1, evidence=kind).json() for kind in ("none", "causal"))
    assert "evidence" not in plain["windows"][0]
    assert "evidence_cost" not in plain
    for name in ("predictions", "events", "coverage", "summary"):
        assert with_it[name] == plain[name]


def test_a_label_that_the_model_lacks_is_refused(client: httpx.Client, pan: Path) -> None:
    response = upload(client, pan, windows=1, evidence="causal", evidence_label="jump")
    assert (response.status_code, response.json()["code"]) == (422, "invalid_option")
    assert "no label 'jump'" in response.json()["detail"]


def test_evidence_beyond_the_limit_is_refused_with_limit_and_actual(client: httpx.Client, clip: Path) -> None:
    response = upload(client, clip, windows="all", crops=3, evidence="causal")
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "evidence_too_large")
    assert (problem["limit"], problem["actual"]) == (1024, 3 * 3 * SETS)


def test_both_clients_and_the_command_line_get_evidence_and_verify_computes_it_again(
    program: Program, pan: Path, tmp_path: Path
) -> None:
    with Client(program.url) as client:
        result = client.classify(pan, windows=1, evidence="causal", evidence_label="pan_left")
    [window] = result.windows
    assert window.evidence is not None
    assert window.evidence.label == "pan_left"

    async def asked() -> JobResult:
        async with AsyncClient(program.url) as client:
            return await client.classify(pan, windows=1, evidence="causal", evidence_label="pan_left")

    [again] = asyncio.run(asked()).windows
    assert again.evidence is not None
    assert again.evidence.frames == window.evidence.frames, "the same request has the same evidence"
    run = CliRunner().invoke(
        app, ["classify", str(pan), "--server", program.url, "--windows", "1", "--evidence", "causal", "--jsonl"]
    )
    assert run.exit_code == 0, run.output
    answer = tmp_path / "answer.jsonl"
    answer.write_text(run.stdout)
    assert '"evidence"' in run.stdout
    held = CliRunner().invoke(app, ["verify", str(answer), str(pan), "--repository", str(MODEL_REPOSITORY)])
    assert (held.exit_code, "holds" in held.output) == (0, True), held.output
    answer.write_text(run.stdout.replace('"contribution":', '"contribution":1', 1))
    changed = CliRunner().invoke(app, ["verify", str(answer), str(pan), "--repository", str(MODEL_REPOSITORY)])
    assert changed.exit_code == 1
    assert "evidence.frames[0].contribution" in changed.output


def test_an_idempotency_key_tells_a_request_with_evidence_from_one_without(client: httpx.Client, pan: Path) -> None:
    key = {"Idempotency-Key": os.urandom(8).hex()}
    files = {"file": pan.read_bytes()}
    assert client.post("/v1/classify?windows=1", files=files, headers=key).status_code == 200
    response = client.post("/v1/classify?windows=1&evidence=causal", files=files, headers=key)
    assert (response.status_code, response.json()["code"]) == (422, "idempotency_key_reused")


@pytest.fixture
def two_workers(tmp_path: Path) -> Iterator[Program]:
    program = Program(tmp_path, size=Size(1, 2), VIDTR_WORKER_LEASE_S="2")
    program.start()
    yield program
    program.stop()


def test_a_worker_that_is_killed_leaves_the_same_answer(two_workers: Program, pan: Path) -> None:
    with two_workers.client() as client, ThreadPoolExecutor(1) as pool:
        want = causes(upload(client, pan, windows=2, evidence="causal"))
        asked = pool.submit(upload, client, pan, windows=2, evidence="causal")
        victim = two_workers.other_worker
        while not 16 < _newest(client)["clips_done"] < 2 * SETS - 32:
            assert not asked.done(), "the job ended before the worker was killed"
            time.sleep(0.01)
        os.kill(victim, signal.SIGKILL)
        got = causes(asked.result())
    assert len(want) == 2
    for before, after in zip(want, got, strict=True):
        for one, other in zip(before.frames, after.frames, strict=True):
            assert one.contribution == pytest.approx(other.contribution, abs=1e-4)


def _newest(client: httpx.Client) -> dict[str, int]:
    [job, *_] = client.get("/v1/jobs").json()["jobs"]
    found: dict[str, int] = job
    return found if job["status"] in ("queued", "running") else {"clips_done": 0}
