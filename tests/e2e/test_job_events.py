"""Following a job over HTTP, and the list of jobs."""

import json
from pathlib import Path

import httpx

from testing.program import upload
from testing.videos import write_video


def submitted(client: httpx.Client, path: Path, **options: str) -> str:
    with path.open("rb") as file:
        response = client.post(
            "/v1/classify", files={"file": file}, params=options, headers={"Prefer": "respond-async"}
        )
    assert response.status_code == 202
    return str(response.json()["id"])


def follow(client: httpx.Client, job: str, last_id: str | None = None) -> list[dict[str, str]]:
    """All events until the stream ends by itself."""
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    with client.stream("GET", f"/v1/jobs/{job}/events", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["Content-Type"].startswith("text/event-stream")
        text = "".join(response.iter_text())
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]


def test_a_job_is_followed_to_its_end_and_its_events_can_be_had_again(client: httpx.Client, tmp_path: Path) -> None:
    job = submitted(client, write_video(tmp_path / "long.mp4", 300, fps=25, size=(96, 64)), windows="all")
    events = follow(client, job)
    assert events[0]["event"] == "queued"
    assert {event["event"] for event in events[1:-1]} <= {"running"}
    last = json.loads(events[-1]["data"])
    assert (events[-1]["event"], last["clips_done"]) == ("succeeded", last["clips_total"])
    assert follow(client, job) == events
    assert follow(client, job, events[0]["id"]) == events[1:]
    ended = client.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": events[-1]["id"]})
    assert (ended.status_code, ended.content) == (204, b"")


def test_events_of_nothing_and_after_nothing_are_refused(client: httpx.Client, clip: Path) -> None:
    assert client.get(f"/v1/jobs/{'0' * 32}/events").status_code == 404
    job = submitted(client, clip)
    bad = client.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": "yesterday"})
    assert (bad.status_code, bad.json()["code"]) == (422, "invalid_option")


def test_the_newest_jobs_are_listed_first(client: httpx.Client, clip: Path) -> None:
    ids = [upload(client, clip).json()["id"] for _ in range(3)]
    first = client.get("/v1/jobs", params={"limit": 2}).json()
    second = client.get("/v1/jobs", params={"limit": 1, "cursor": first["next_cursor"]}).json()
    assert [job["id"] for job in first["jobs"] + second["jobs"]] == ids[::-1]
    assert {job["status"] for job in first["jobs"]} == {"succeeded"}
    assert "result" not in first["jobs"][0]


def test_a_page_size_out_of_range_is_refused(client: httpx.Client) -> None:
    assert client.get("/v1/jobs", params={"limit": 101}).status_code == 422
    assert client.get("/v1/jobs", params={"cursor": "x"}).json()["code"] == "invalid_option"
