"""`evidence=causal` through the running program: the bundled model, its queue, its workers and its clients."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Unpack

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from service.aggregate import probabilities
from service.cli.main import app
from service.client import AsyncClient, Client, Options
from service.contracts import JobRequest, JobResult, WindowEvidence
from service.evidence import Kept, Values, evidence, variants
from service.inference.torchscript import TorchScriptBackend, TorchScriptConfig
from service.settings import Settings
from service.verification import differences
from service.video.clips import decode_file
from service.video.config import VideoLimits
from testing.program import Program, Size, upload
from tests.e2e.test_classify import moving_camera
from tests.fixtures.servers import SHIPPED_REPOSITORY

SETS = 256
MODEL = "camera_motion"


@pytest.fixture(scope="module")
def pan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving_camera(tmp_path_factory.mktemp("pan") / "pan.mp4", "pan_left")


def classified(program: Program, video: Path, **options: Unpack[Options]) -> JobResult:
    """The answer, however long it takes."""
    with Client(program.url) as client:
        return client.classify(video, **options)


def cause_of(answer: JobResult) -> WindowEvidence:
    """The evidence of its one window."""
    [window] = answer.windows
    assert window.evidence is not None
    return window.evidence


@pytest.fixture(scope="module")
def answer(program: Program, pan: Path) -> JobResult:
    return classified(program, pan, windows=1, evidence="causal")


def by_brute_force(video: Path, label: str, scratch: Path) -> Values:
    """The contributions of the frames of a video's one window: the model by itself, over all sets of frames."""
    settings = Settings(_env_file=None, model_repository=SHIPPED_REPOSITORY)

    async def values() -> Values:
        backend = TorchScriptBackend(TorchScriptConfig(SHIPPED_REPOSITORY, threads=1))
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
    answer: JobResult, pan: Path, tmp_path: Path
) -> None:
    cause = cause_of(answer)
    got = [frame.contribution for frame in cause.frames]
    np.testing.assert_allclose(got, by_brute_force(pan, cause.label, tmp_path / "clip"), atol=1e-4)
    assert sum(got) == pytest.approx(cause.score - cause.still_score, abs=1e-4)
    assert cause.error == 0
    assert cause.label == answer.windows[0].predictions[0].label


def test_a_window_costs_a_clip_for_each_set_of_frames(answer: JobResult) -> None:
    assert answer.evidence_cost is not None
    assert answer.evidence_cost.forwards == cause_of(answer).forwards == SETS
    assert answer.evidence_cost.engine_ms > 0


def test_an_answer_is_otherwise_the_same_with_evidence(program: Program, answer: JobResult, pan: Path) -> None:
    plain = classified(program, pan, windows=1)
    assert (plain.windows[0].evidence, plain.evidence_cost) == (None, None)
    assert (
        differences(plain, answer.model_copy(update={"evidence_cost": None, "windows": plain.windows}), JobRequest())
        == []
    )
    assert answer.windows[0].predictions[0].score == pytest.approx(plain.windows[0].predictions[0].score, abs=1e-4)


def test_a_label_that_the_model_lacks_is_refused(client: httpx.Client, pan: Path) -> None:
    response = upload(client, pan, windows=1, evidence="causal", evidence_label="jump")
    assert (response.status_code, response.json()["code"]) == (422, "invalid_option")
    assert "no label 'jump'" in response.json()["detail"]


def test_evidence_beyond_the_limit_is_refused_with_limit_and_actual(client: httpx.Client, clip: Path) -> None:
    response = upload(client, clip, windows="all", crops=3, evidence="causal")
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "evidence_too_large")
    assert (problem["limit"], problem["actual"]) == (1024, 3 * 3 * SETS)


def test_one_window_of_many_is_explained_as_it_is_alone(program: Program, client: httpx.Client, clip: Path) -> None:
    response = upload(client, clip, windows="all", crops=3, evidence="causal", evidence_window=2)
    assert response.status_code == 200, response.text
    answer = JobResult.model_validate(response.json())
    causes = [window.evidence for window in answer.windows]
    assert [cause is not None for cause in causes] == [False, False, True]
    assert answer.evidence_cost is not None
    assert answer.evidence_cost.forwards == 3 * SETS
    last = answer.windows[2]
    part = classified(program, clip, windows=1, crops=3, evidence="causal", start=last.start_s, end=last.end_s)
    alone = cause_of(part)
    assert causes[2] is not None
    assert [frame.time_s for frame in causes[2].frames] == [frame.time_s for frame in alone.frames]
    np.testing.assert_allclose(
        [frame.contribution for frame in causes[2].frames], [frame.contribution for frame in alone.frames], atol=1e-4
    )


def test_a_window_that_the_video_does_not_have_is_refused(client: httpx.Client, pan: Path) -> None:
    problem = upload(client, pan, windows=1, evidence="causal", evidence_window=1).json()
    assert (problem["code"], problem["limit"], problem["actual"]) == ("invalid_option", 0, 1)


def test_a_repeated_request_of_the_other_client_has_the_same_evidence(
    program: Program, answer: JobResult, pan: Path
) -> None:
    async def asked() -> JobResult:
        async with AsyncClient(program.url) as client:
            return await client.classify(pan, windows=1, evidence="causal")

    for one, other in zip(cause_of(answer).frames, cause_of(asyncio.run(asked())).frames, strict=True):
        assert one.contribution == pytest.approx(other.contribution, abs=1e-4)


def test_the_command_line_gets_evidence_for_a_label_and_verify_computes_it_again(
    program: Program, pan: Path, tmp_path: Path
) -> None:
    asked = ["--windows", "1", "--evidence", "causal", "--evidence-label", "pan_right", "--jsonl"]
    run = CliRunner().invoke(app, ["classify", str(pan), "--server", program.url, *asked])
    assert run.exit_code == 0, run.output
    assert '"label":"pan_right"' in run.stdout.replace(" ", "")
    kept = tmp_path / "answer.jsonl"
    kept.write_text(run.stdout)
    one_thread = {"VIDTR_TORCH_THREADS": "1"}
    held = CliRunner().invoke(
        app, ["verify", str(kept), str(pan), "--repository", str(SHIPPED_REPOSITORY)], env=one_thread
    )
    assert (held.exit_code, "holds" in held.output) == (0, True), held.output


def test_an_idempotency_key_tells_a_request_with_evidence_from_one_without(client: httpx.Client, pan: Path) -> None:
    key = {"Idempotency-Key": os.urandom(8).hex()}
    files = {"file": pan.read_bytes()}
    assert client.post("/v1/classify?windows=1", files=files, headers=key).is_success
    response = client.post("/v1/classify?windows=1&evidence=causal", files=files, headers=key)
    assert (response.status_code, response.json()["code"]) == (422, "idempotency_key_reused")


@pytest.fixture
def two_workers(tmp_path: Path) -> Iterator[Program]:
    with Program(tmp_path, size=Size(1, 2), VIDTR_WORKER_LEASE_S="2") as program:
        yield program


def test_a_worker_that_is_killed_leaves_the_same_answer(two_workers: Program, answer: JobResult, pan: Path) -> None:
    with two_workers.client() as client, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(classified, two_workers, pan, windows=1, evidence="causal")
        while not 16 < _clips_done(client) < SETS - 32:
            assert not asked.done(), "the job ended before the worker was killed"
            time.sleep(0.01)
        [worker] = two_workers.others("worker")
        worker.kill()
        got = cause_of(asked.result())
    for one, other in zip(cause_of(answer).frames, got.frames, strict=True):
        assert one.contribution == pytest.approx(other.contribution, abs=1e-4)


def _clips_done(client: httpx.Client) -> int:
    return sum(job["clips_done"] for job in client.get("/v1/jobs").json()["jobs"] if job["status"] == "running")
