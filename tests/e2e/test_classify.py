import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

import service
from service.contracts import JobRequest, JobResult
from service.digest import file_sha256
from service.model.presets import CAMERA_MOTION_LABELS
from service.training.camera_motion.textures import dead_leaves
from testing.program import Program, upload
from testing.videos import Image, write_video
from tests.e2e.nearly import nearly
from tests.fixtures.servers import MODEL_REPOSITORY


def moving_camera(path: Path, label: str) -> Path:
    """Two seconds over a scene of discs and boxes; the camera travels a twentieth of the frame in 4 frames."""
    scene = dead_leaves(480, np.random.default_rng(3))
    along, sign = {"pan_left": (1, -1), "pan_right": (1, 1), "tilt_up": (0, -1), "tilt_down": (0, 1)}[label]

    def draw(number: int, width: int, height: int) -> Image:
        corner = [160, 160]
        corner[along] += sign * round(1.5 * number)
        return np.ascontiguousarray(scene[corner[0] : corner[0] + height, corner[1] : corner[1] + width])

    return write_video(path, 60, size=(120, 120), draw=draw)


def test_the_answer_has_the_documented_shape(client: httpx.Client, clip: Path) -> None:
    response = upload(client, clip)
    assert response.status_code == 200
    body = response.json()
    [served] = [model for model in client.get("/v1/models").json()["models"] if model["default"]]
    judged = ["abstained", "events", "summary"] if served["thresholds"] else []
    assert list(body) == [
        "id",
        "status",
        "model",
        "coverage",
        "video",
        "predictions",
        "windows",
        "timings_ms",
        "provenance",
        "warnings",
        *judged,
    ]
    assert body["model"] == {
        "name": "camera_motion",
        "version": served["version"],
        "trained": True,
        "weights_sha256": served["weights_sha256"],
        "arithmetic": "fp32",
    }
    assert re.fullmatch(r"[0-9a-f]{64}", served["weights_sha256"])
    video = body["video"]
    assert (video["width"], video["height"], video["fps"], video["codec"]) == (96, 64, 25.0, "h264")
    assert video["duration_s"] == pytest.approx(3.0)
    assert body["provenance"] == {
        "options": JobRequest().model_dump(exclude_none=True),
        "video_sha256": file_sha256(clip),
        "release": service.__version__,
    }
    assert list(body["timings_ms"]) == ["upload", "decode", "queue", "inference", "total"]


def test_every_sampled_frame_has_its_time_and_scores_that_sum_to_one(client: httpx.Client, clip: Path) -> None:
    result = JobResult.model_validate_json(upload(client, clip).content)
    assert len(result.windows) == 3
    for window in result.windows:
        assert window.attention is not None
        assert [frame.frame for frame in window.attention] == list(range(8))
        assert sum(frame.score for frame in window.attention) == pytest.approx(1.0, abs=1e-4)
        assert sum(frame.retention for frame in window.attention) == pytest.approx(4.0, abs=1e-4)
        for k, frame in enumerate(window.attention):
            wanted = window.start_s + k * 4 / 30
            assert wanted - 1 / 25 - 1e-6 < frame.time_s <= wanted + 1e-3


def test_an_untrained_model_is_said_to_be_untrained_and_the_shipped_one_is_not(
    client: httpx.Client, clip: Path, tmp_path: Path
) -> None:
    assert upload(client, clip).json()["warnings"] == []
    program = Program(tmp_path, VIDTR_MODEL_REPOSITORY=str(MODEL_REPOSITORY), VIDTR_DEFAULT_MODEL="untrained_tiny")
    with program, program.client() as untrained:
        warnings = upload(untrained, clip).json()["warnings"]
    assert [warning["code"] for warning in warnings] == ["untrained_model"]


@pytest.mark.parametrize("label", ["pan_left", "pan_right", "tilt_up", "tilt_down"])
def test_the_shipped_model_sees_which_way_the_camera_moves(client: httpx.Client, tmp_path: Path, label: str) -> None:
    video = moving_camera(tmp_path / "moving.mp4", label)
    windows = upload(client, video).json()["windows"]
    assert [window["predictions"][0]["label"] for window in windows] == [label] * len(windows)


def test_a_raw_body_gets_the_same_answer_as_a_form(client: httpx.Client, clip: Path) -> None:
    form = upload(client, clip).json()
    raw = client.post("/v1/classify", content=clip.read_bytes(), headers={"Content-Type": "video/mp4"}).json()
    assert raw["windows"] == nearly(form["windows"])
    assert raw["predictions"] == nearly(form["predictions"])


def test_a_chunked_body_without_a_length_is_accepted(client: httpx.Client, clip: Path) -> None:
    def chunks() -> Iterator[bytes]:
        data = clip.read_bytes()
        for start in range(0, len(data), 1000):
            yield data[start : start + 1000]

    response = client.post("/v1/classify", content=chunks(), headers={"Content-Type": "video/mp4"})
    assert response.status_code == 200


def test_options_shape_the_answer(client: httpx.Client, clip: Path) -> None:
    body = upload(client, clip, windows=2, crops=3, top_k=2, attention="layers", start=0.5, end=2.5).json()
    assert len(body["windows"]) == 2
    assert [len(window["predictions"]) for window in body["windows"]] == [2, 2]
    assert body["windows"][0]["start_s"] == 0.5
    assert body["windows"][-1]["end_s"] == pytest.approx(2.5)
    assert len(body["windows"][0]["attention"][0]["layer_scores"]) >= 3


def test_attention_can_be_left_out(client: httpx.Client, clip: Path) -> None:
    assert "attention" not in upload(client, clip, attention="none").json()["windows"][0]


def test_server_timing_carries_the_stages(client: httpx.Client, clip: Path) -> None:
    response = upload(client, clip)
    timings = response.json()["timings_ms"]
    assert response.headers["Server-Timing"] == ", ".join(f"{stage};dur={ms}" for stage, ms in timings.items())


def test_a_request_id_is_taken_over_and_a_bad_one_replaced(client: httpx.Client) -> None:
    assert client.get("/v1/models", headers={"X-Request-Id": "abc-1"}).headers["X-Request-Id"] == "abc-1"
    assert re.fullmatch(
        "[0-9a-f]{32}", client.get("/v1/models", headers={"X-Request-Id": "a b"}).headers["X-Request-Id"]
    )


def test_respond_async_accepts_the_job_and_the_job_answers(client: httpx.Client, clip: Path) -> None:
    with clip.open("rb") as file:
        accepted = client.post("/v1/classify", files={"file": file}, headers={"Prefer": "respond-async"})
    assert accepted.status_code == 202
    assert accepted.headers["Preference-Applied"] == "respond-async"
    location = accepted.headers["Location"]
    assert location == f"/v1/jobs/{accepted.json()['id']}"
    status = client.get(location).json()
    while status["status"] in ("queued", "running"):
        status = client.get(location).json()
    assert status["status"] == "succeeded"
    assert status["result"]["predictions"] == nearly(upload(client, clip).json()["predictions"])


def test_the_model_list_says_what_is_served(client: httpx.Client) -> None:
    [model] = client.get("/v1/models").json()["models"]
    assert (model["name"], model["default"], model["trained"]) == ("camera_motion", True, True)
    assert set(CAMERA_MOTION_LABELS) <= set(model["labels"])
    assert len(model["thresholds"]) in (0, len(model["labels"]))
    assert client.get("/v1/models/camera_motion").json()["models"] == [model]


def test_health_says_what_it_checked(client: httpx.Client) -> None:
    assert client.get("/health/live").json()["status"] == "ok"
    ready = client.get("/health/ready").json()
    assert ready.pop("sandbox")
    checks = dict.fromkeys(("redis", "durability", "model", "backend", "process", "sandbox"), "ok")
    assert ready == {"status": "ok", "checks": checks}


def test_metrics_cover_every_stage(client: httpx.Client, clip: Path) -> None:
    upload(client, clip)
    families = {f.name: f for f in text_string_to_metric_families(client.get("/metrics").text)}
    stages = {s.labels["stage"] for s in families["vidtr_stage_seconds"].samples if s.value}
    assert stages >= {"upload", "decode", "enqueue", "queue", "batch", "inference", "total"}
    assert {"vidtr_batch_clips", "vidtr_queue_clips", "vidtr_http_requests", "vidtr_jobs"} <= set(families)


def test_the_openapi_document_describes_uploads_answers_and_problems(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    classify = document["paths"]["/v1/classify"]["post"]
    bodies = {"multipart/form-data", "video/*", "application/octet-stream", "application/json"}
    assert set(classify["requestBody"]["content"]) == bodies
    assert {"200", "202", "400", "404", "413", "415", "422", "503", "504"} <= set(classify["responses"])
    example = classify["responses"]["200"]["content"]["application/json"]["examples"]["one_window"]["value"]
    JobResult.model_validate(example)
    assert "HTTPValidationError" not in json.dumps(document)


def test_the_page_is_served(client: httpx.Client) -> None:
    response = client.get("/")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/static/style.css"])
def test_the_page_and_its_files_may_load_nothing_from_elsewhere(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    policy = dict(directive.strip().split(" ", 1) for directive in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert headers["Cache-Control"] == "no-cache"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_file_of_the_page_that_a_browser_has_is_not_sent_again(client: httpx.Client) -> None:
    tag = client.get("/static/app.js").headers["ETag"]
    again = client.get("/static/app.js", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")


def test_the_table_of_metrics_is_what_is_served(client: httpx.Client, clip: Path) -> None:
    assert upload(client, clip).status_code == 200
    served = {
        family.name + ("_total" if family.type == "counter" else ""): family.type
        for family in text_string_to_metric_families(client.get("/metrics").text)
    }
    table = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    documented = dict(re.findall(r"^\| \[`(\w+)`\]\(#\1\) \| (\w+) \|", table, re.M))
    assert served == documented


def test_a_program_without_a_signing_key_signs_no_answer_and_lists_no_key(client: httpx.Client, clip: Path) -> None:
    assert "signature" not in upload(client, clip).json()
    assert client.get("/.well-known/jwks.json").json() == {"keys": []}
