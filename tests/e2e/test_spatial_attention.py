"""`attention=spatial` through the running program: the bundled model, its queue, its workers and its clients."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from service.client import Client
from service.contracts import JobRequest, JobResult, Region
from service.inference.backend import Scores
from service.inference.torchscript import TorchScriptBackend, TorchScriptConfig
from service.settings import Settings
from service.video.clips import decode_file
from service.video.config import VideoLimits
from testing.program import Program, upload
from tests.e2e.test_classify import moving_camera
from tests.fixtures.servers import MODEL_REPOSITORY, SHIPPED_REPOSITORY

MODEL = "camera_motion"
OTHER = "untrained_tiny"
GRID = (6, 6)


@pytest.fixture(scope="module")
def pan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving_camera(tmp_path_factory.mktemp("pan") / "pan.mp4", "pan_left")


def by_the_engine(video: Path, request: JobRequest, scratch: Path) -> Scores:
    """What the model itself says of the clips of a video."""
    settings = Settings(_env_file=None, model_repository=SHIPPED_REPOSITORY)

    async def scores() -> Scores:
        backend = TorchScriptBackend(TorchScriptConfig(SHIPPED_REPOSITORY, threads=1))
        await backend.start()
        try:
            [spec] = [one for one in await backend.models() if one.name == MODEL]
            decode_file(video, scratch, spec.clip, request, settings.subset(VideoLimits))
            clips = np.fromfile(scratch, np.uint8).reshape(-1, *spec.clip_shape)
            return await backend.infer(spec.name, spec.version, clips)
        finally:
            await backend.close()

    return asyncio.run(scores())


def maps_of(answer: JobResult) -> NDArray[np.float64]:
    """The maps of an answer, `(windows, crops, T, rows, columns)`; NaN for frames without one."""
    none = np.full(GRID, np.nan)
    return np.array(
        [
            [[none if grid is None else grid for grid in view.frames] for view in window.spatial_attention or ()]
            for window in answer.windows
        ]
    )


def test_an_answer_says_where_the_model_looked_in_each_frame_that_it_kept(
    program: Program, pan: Path, tmp_path: Path
) -> None:
    with Client(program.url) as client:
        answer = client.classify(pan, windows=1, attention="spatial")
        plain = client.classify(pan, windows=1, attention="layers")
    expected = by_the_engine(pan, JobRequest(windows=1), tmp_path / "clip")
    found = maps_of(answer)
    assert found.shape == (1, 1, 8, *GRID)
    alive = expected.layer_retention[0, -2] > 0
    assert alive.sum() == 4
    assert (~np.isnan(found[0, 0]).all((1, 2))).tolist() == alive.tolist()
    np.testing.assert_allclose(np.nan_to_num(found[0, 0]), expected.spatial_attention[0], atol=1e-4)
    [window], [without] = answer.windows, plain.windows
    assert window.spatial_attention is not None
    assert without.spatial_attention is None
    # Of two workers each may have seen it beside other clips.
    for one, other in zip(window.predictions, without.predictions, strict=True):
        assert one.label == other.label
        assert one.score == pytest.approx(other.score, abs=1e-5)
    assert window.attention is not None
    assert without.attention is not None
    for seen, plainly in zip(window.attention, without.attention, strict=True):
        assert seen.time_s == plainly.time_s
        assert seen.score == pytest.approx(plainly.score, abs=1e-5)
    # The bundled model is shown the whole picture.
    assert window.spatial_attention[0].region == Region(left=0, top=0, width=1, height=1)


def test_each_window_and_crop_has_a_view(program: Program, clip: Path) -> None:
    with Client(program.url) as client:
        answer = client.classify(clip, windows="all", crops=3, attention="spatial")
    assert maps_of(answer).shape == (len(answer.windows), 3, 8, *GRID)
    assert len(answer.windows) > 1


def test_it_is_left_out_of_an_answer_that_was_not_asked_for_it(client: httpx.Client, clip: Path) -> None:
    answer = upload(client, clip, windows=1).json()
    assert "spatial_attention" not in answer["windows"][0]


def test_the_windows_of_a_stream_have_it_too(client: httpx.Client, clip: Path) -> None:
    with (
        clip.open("rb") as file,
        client.stream(
            "POST",
            "/v1/classify",
            params={"windows": "all", "attention": "spatial"},
            files={"file": file},
            headers={"Accept": "text/event-stream"},
        ) as events,
    ):
        text = events.read().decode()
    told = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    [result] = [event for event in told if "timings_ms" in event]
    assert all("spatial_attention" in window for window in result["windows"])
    partial = [event for event in told if "index" in event]
    assert all("spatial_attention" in event.get("window", event) for event in partial)


def test_a_live_stream_does_not_offer_it(client: httpx.Client) -> None:
    problem = client.post("/v1/streams", json={"attention": "spatial"}).json()
    assert (problem["status"], problem["code"]) == (422, "invalid_option")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A program with little room in an answer, that serves a model besides which does not say where it looked."""
    folder = tmp_path_factory.mktemp("small")
    shutil.copytree(SHIPPED_REPOSITORY, folder / "models")
    shutil.copytree(MODEL_REPOSITORY / OTHER, folder / "models" / OTHER)
    with Program(folder, VIDTR_MODEL_REPOSITORY=str(folder / "models"), VIDTR_MAX_SPATIAL_CELLS="600") as program:
        yield program


def test_models_say_whether_they_give_it_and_a_model_that_does_not_is_refused(small: Program, clip: Path) -> None:
    with small.client() as client:
        grids = {model["name"]: model["spatial_grid"] for model in client.get("/v1/models").json()["models"]}
        problem = upload(client, clip, model=OTHER, attention="spatial").json()
    assert grids == {MODEL: [*GRID], OTHER: None}
    assert (problem["status"], problem["code"], problem["actual"]) == (422, "invalid_option", "spatial")
    assert f"model {OTHER!r} in version 1, which does not say where in the picture it looked" in problem["detail"]


def test_more_numbers_than_an_answer_may_have_are_refused(small: Program, clip: Path) -> None:
    with small.client() as client:
        assert upload(client, clip, windows=2, attention="spatial").status_code == 200
        for windows in (3, "all"):
            problem = upload(client, clip, windows=windows, attention="spatial").json()
            assert (problem["status"], problem["code"]) == (422, "spatial_attention_too_large")
            assert (problem["limit"], problem["actual"]) == (600, 3 * 8 * 36)
        assert upload(client, clip, windows=3, attention="layers").status_code == 200
