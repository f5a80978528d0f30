"""POST /v1/classify that answers as an event stream."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from testing.program import upload
from testing.videos import write_video
from tests.e2e.nearly import nearly

STREAM = {"Accept": "text/event-stream"}


def events(response: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and data of each event as it comes."""
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/event-stream")
    name = ""
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def told(client: httpx.Client, path: Path, **options: str) -> list[tuple[str, dict[str, Any]]]:
    with (
        path.open("rb") as file,
        client.stream("POST", "/v1/classify", files={"file": file}, params=options, headers=STREAM) as response,
    ):
        return list(events(response))


def test_a_stream_tells_of_each_stage_and_ends_with_the_answer(client: httpx.Client, clip: Path) -> None:
    stages = told(client, clip, windows="2")
    names = [name for name, _ in stages]
    assert [name for name in dict.fromkeys(names) if name != "running"] == ["uploaded", "decoded", "queued", "result"]
    known = dict(stages)
    assert known["uploaded"]["id"] == known["result"]["id"]
    assert len(known["decoded"]["windows"]) == 2
    assert known["result"]["windows"] == nearly(upload(client, clip, windows=2).json()["windows"])
    assert client.get(f"/v1/jobs/{known['result']['id']}").json()["result"] == known["result"]


def test_the_times_of_the_sampled_frames_are_told_before_they_are_scored(client: httpx.Client, clip: Path) -> None:
    known = dict(told(client, clip))
    windows = known["result"]["windows"]
    early = [[round(time_s, 6) for time_s in window["times_s"]] for window in known["decoded"]["windows"]]
    assert early == [[frame["time_s"] for frame in window["attention"]] for window in windows]


def test_what_is_refused_before_the_upload_is_complete_is_an_ordinary_problem(client: httpx.Client, clip: Path) -> None:
    response = client.post("/v1/classify", content=clip.read_bytes(), params={"crops": 2}, headers=STREAM)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_option")
    response = client.post("/v1/classify", content=b"", headers=STREAM)
    assert (response.status_code, response.json()["code"]) == (422, "empty_upload")
    response = client.post("/v1/classify", content=bytes(20_000_001), headers=STREAM)
    assert (response.status_code, response.json()["limit"]) == (413, 20_000_000)


def test_a_video_that_does_not_decode_ends_its_stream_with_the_problem(client: httpx.Client, tmp_path: Path) -> None:
    short = write_video(tmp_path / "short.mp4", 2)
    plain = upload(client, short).json()
    (first, _), (name, problem) = told(client, short)
    assert (first, name) == ("uploaded", "problem")
    assert problem.pop("request_id") != plain.pop("request_id")
    assert problem == plain


def test_leaving_a_stream_cancels_its_job(client: httpx.Client, tmp_path: Path) -> None:
    path = write_video(tmp_path / "long.mp4", 300, fps=25)
    headers = {**STREAM, "Content-Type": "video/mp4"}
    with client.stream(
        "POST", "/v1/classify", content=path.read_bytes(), params={"windows": 100}, headers=headers
    ) as response:
        job = next(data["id"] for name, data in events(response) if name == "queued")
    while (state := client.get(f"/v1/jobs/{job}")).status_code == 200:
        assert state.json()["status"] in ("queued", "running")
        time.sleep(0.05)
    assert (state.status_code, state.json()["code"]) == (410, "job_deleted")


def test_a_job_with_an_idempotency_key_outlives_its_stream(client: httpx.Client, clip: Path) -> None:
    headers = {**STREAM, "Content-Type": "video/mp4", "Idempotency-Key": uuid4().hex}
    with client.stream("POST", "/v1/classify", content=clip.read_bytes(), headers=headers) as response:
        job = next(data["id"] for name, data in events(response) if name == "queued")
    with client.stream("POST", "/v1/classify", content=clip.read_bytes(), headers=headers) as response:
        again = dict(events(response))
    assert (again["uploaded"]["id"], again["result"]["id"]) == (job, job)


def test_the_windows_of_a_long_video_are_told_before_the_answer(client: httpx.Client, tmp_path: Path) -> None:
    video = write_video(tmp_path / "long.mp4", frames=30 * 25, size=(32, 32))
    stages = told(client, video, windows="all")
    early = [(place, data) for place, (name, data) in enumerate(stages) if name == "window"]
    answer = stages[-1][1]
    assert stages[-1][0] == "result", answer["detail"]
    assert early
    for _, window in early:
        number = window.pop("index")
        assert window == answer["windows"][number]


def test_a_long_video_is_accepted_before_it_is_decoded_and_gets_the_same_answer(
    client: httpx.Client, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "longer.mp4", frames=30 * 40, size=(32, 32))
    stages = told(client, video, windows="all")
    first = list(dict.fromkeys(name for name, _ in stages))
    assert first[:2] == ["uploaded", "planned"]
    assert first.index("planned") < min(first.index("queued"), first.index("decoded"))
    known = dict(stages)
    assert (first[-1], known["planned"]["id"]) == ("result", known["result"]["id"])
    assert known["planned"]["video"]["duration_s"] == known["decoded"]["video"]["duration_s"]
    assert len(known["planned"]["windows"]) == len(known["decoded"]["windows"]) > 32
    plain = upload(client, video, windows="all").json()
    for field in ("video", "coverage", "windows", "events", "summary"):
        assert known["result"][field] == nearly(plain[field]), field
