"""Batches: many videos by reference as one, over API processes that come and go."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api.api_keys import hashed
from service.client import AsyncClient, Client, VideoUrl
from testing.object_stores import S3Server
from testing.program import Program, Size, upload
from testing.range_server import RangeServer, Served

pytestmark = pytest.mark.slow

KEYS = {name: f"vk_{name}_{'x' * 40}" for name in ("ann", "bob", "carl")}
QUOTAS = {"carl": 'requests = "3/second"\n'}
END_S = 120.0


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, s3: S3Server) -> Iterator[Program]:
    listed = "".join(
        f'[[keys]]\nname = "{name}"\nhash = "{hashed(key)}"\n{QUOTAS.get(name, "")}' for name, key in KEYS.items()
    )
    program = Program(
        tmp_path_factory.mktemp("batches"),
        size=Size(2, 1),
        VIDTR_API_KEYS=listed,
        VIDTR_SOURCE_HOSTS="127.0.0.1",
        VIDTR_SOURCE_PRIVATE_TARGETS="true",
        VIDTR_SOURCE_BUCKETS="s3://films",
        VIDTR_SOURCE_S3_ENDPOINT=s3.endpoint,
        VIDTR_SOURCE_S3_CREDENTIALS_FILE=str(s3.credentials),
        VIDTR_BATCH_DESTINATIONS="s3://films",
        VIDTR_RESERVATION_TTL_S="5",
    )
    with program:
        yield program


@pytest.fixture(scope="module")
def server() -> Iterator[RangeServer]:
    with RangeServer() as server:
        yield server


def caller(url: str, name: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEYS[name]}"}, timeout=60.0)


@pytest.fixture
def ann(program: Program) -> Iterator[httpx.Client]:
    with caller(program.url, "ann") as client:
        yield client


@pytest.fixture
def bob(program: Program) -> Iterator[httpx.Client]:
    with caller(program.url, "bob") as client:
        yield client


def send(client: httpx.Client, urls: list[str], **options: str | int) -> dict[str, Any]:
    lines = "".join(
        json.dumps({"id": f"video {number}", "source": {"url": url}}) + "\n" for number, url in enumerate(urls)
    )
    answer = client.post(
        "/v1/batches", content=lines, headers={"Content-Type": "application/jsonl"}, params={"windows": 1, **options}
    )
    assert answer.status_code == 202, answer.text
    batch: dict[str, Any] = answer.json()
    assert answer.headers["Location"] == f"/v1/batches/{batch['id']}"
    return batch


def until(client: httpx.Client, batch: dict[str, Any], reached: Any) -> dict[str, Any]:
    end = time.monotonic() + END_S
    while not reached(found := client.get(batch["links"]["self"]).raise_for_status().json()):
        assert time.monotonic() < end, found
        time.sleep(0.1)
    return dict(found)


def ended(found: dict[str, Any]) -> bool:
    return "ended_at" in found


def results(client: httpx.Client, batch: dict[str, Any]) -> list[dict[str, Any]]:
    """All of them, page by page."""
    found, path = [], f"{batch['links']['results']}?limit=5"
    while path:
        page = client.get(path).raise_for_status()
        found += [json.loads(line) for line in page.text.splitlines()]
        path = page.links.get("next", {}).get("url", "")
    return found


def test_a_batch_of_good_bad_and_missing_videos_says_what_each_line_came_to(
    ann: httpx.Client, s3: S3Server, server: RangeServer, clip: Path
) -> None:
    good = [server.serve(f"/good{i}.mp4", Served(clip.read_bytes())) for i in range(4)]
    good += [s3.put(f"good{i}.mp4", clip.read_bytes()) for i in range(4)]
    bad = [server.serve("/bad.mp4", Served(b"no video" * 100)), s3.put("bad.mp4", b"no video")]
    missing = [server.serve("/good0.mp4", Served(clip.read_bytes())) + ".absent", "s3://films/absent"]
    urls = [url for group in (bad[:1], good[:5], missing, good[5:], bad[1:]) for url in group]
    batch = send(ann, urls, destination="s3://films/out/results.jsonl")
    done = until(ann, batch, ended)
    assert done["status"] == "completed"
    counts = {"total": 12, "queued": 0, "running": 0, "succeeded": 8, "failed": 4, "cancelled": 0}
    assert done["counts"] == counts
    found = results(ann, batch)
    until(ann, batch, lambda found: found["destination"]["status"] == "written")
    written = s3.client.get_object(Bucket="films", Key="out/results.jsonl")["Body"].read()
    assert [json.loads(line) for line in written.splitlines()] == found
    assert [one["seq"] for one in found] == [*range(1, 13)]
    assert {(one["line"], one["id"], one["url"]) for one in found} == {
        (number, f"video {number - 1}", url) for number, url in enumerate(urls, 1)
    }
    codes = {one["url"]: one.get("error", {}).get("code") for one in found}
    assert codes == {
        **dict.fromkeys(good),
        **dict.fromkeys(bad, "container_not_allowed"),
        **dict.fromkeys(missing, "source_refused"),
    }
    direct = upload(ann, clip, windows=1).json()
    for one in found:
        if one["url"] in good:
            assert one["result"]["predictions"] == direct["predictions"]
            assert ann.get(f"/v1/jobs/{one['job']}").json()["status"] == "succeeded"


def test_a_manifest_with_a_wrong_line_is_refused_as_a_whole(ann: httpx.Client) -> None:
    body = "url,top_k\nhttps://127.0.0.1/a.mp4,3\ns3://other/b.mp4,\nhttp://127.0.0.1/c.mp4,0\n"
    answer = ann.post("/v1/batches", content=body, headers={"Content-Type": "text/csv"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_manifest")
    assert [line["line"] for line in answer.json()["lines"]] == [3, 4]


def test_results_are_written_into_no_object_that_is_there_and_no_other_bucket(ann: httpx.Client, s3: S3Server) -> None:
    for url in (s3.put("there.jsonl", b"x"), "s3://other/results.jsonl"):
        answer = ann.post(
            "/v1/batches",
            content="url\ns3://films/x\n",
            headers={"Content-Type": "text/csv"},
            params={"destination": url},
        )
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_option")


def test_a_batch_that_is_sent_again_with_its_key_is_the_same_one(
    ann: httpx.Client, bob: httpx.Client, s3: S3Server
) -> None:
    def post(client: httpx.Client, url: str) -> httpx.Response:
        headers = {"Content-Type": "text/csv", "Idempotency-Key": "again"}
        return client.post("/v1/batches", content=f"url\n{url}\n", headers=headers)

    first, again, other = post(ann, "s3://films/x"), post(ann, "s3://films/x"), post(ann, "s3://films/y")
    assert first.json()["id"] == again.json()["id"]
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert post(bob, "s3://films/y").json()["id"] != first.json()["id"]


def test_another_caller_learns_nothing_of_a_batch(ann: httpx.Client, bob: httpx.Client, s3: S3Server) -> None:
    batch = send(ann, ["s3://films/absent"])
    own = batch["links"]["self"]
    refusals = [bob.get(own), bob.get(f"{own}/results"), bob.delete(own), bob.get(f"/v1/batches/{'0' * 32}")]
    assert {(answer.status_code, answer.json()["code"]) for answer in refusals} == {(404, "unknown_batch")}
    assert batch["id"] not in [one["id"] for one in bob.get("/v1/batches").json()["batches"]]
    assert batch["id"] in [one["id"] for one in ann.get("/v1/batches").json()["batches"]]
    assert until(ann, batch, ended)["counts"]["failed"] == 1


def test_lines_wait_for_a_quota_that_is_used_up(program: Program, s3: S3Server, clip: Path) -> None:
    def refused() -> float:
        text = httpx.get(f"{program.first_url}/metrics").text
        return float(text.partition('vidtr_admission_rejects_total{reason="quota_exceeded"} ')[2].split()[0])

    before, urls = refused(), [s3.put(f"quota/{i}.mp4", clip.read_bytes()) for i in range(12)]
    # The process that accepts a batch drives it.
    with caller(program.first_url, "carl") as carl:
        done = until(carl, send(carl, urls), ended)
    assert done["counts"]["succeeded"] == 12
    assert refused() > before


def test_another_caller_is_served_while_a_batch_of_two_hundred_runs_which_is_then_cancelled(
    ann: httpx.Client, bob: httpx.Client, server: RangeServer, clip: Path
) -> None:
    url = server.serve("/many.mp4", Served(clip.read_bytes(), pause_s=0.05))
    batch = send(ann, [f"{url}" for _ in range(200)])
    until(ann, batch, lambda found: found["counts"]["succeeded"] >= 2)
    for number in range(1, 6):
        assert upload(bob, clip, windows=1, top_k=number).status_code == 200
    running = ann.get(batch["links"]["self"]).json()
    assert running["status"] == "running"
    assert 0 < running["counts"]["running"] <= 4
    assert running["counts"]["queued"] > 100
    partial = ann.get(batch["links"]["results"], params={"limit": 2})
    assert [json.loads(line)["seq"] for line in partial.text.splitlines()] == [1, 2]
    done = ann.delete(batch["links"]["self"]).json()
    assert done["status"] == "cancelled"
    assert done["counts"]["queued"] == done["counts"]["running"] == 0
    found = results(ann, batch)
    assert sorted(one["line"] for one in found) == [*range(1, 201)]
    states = Counter(one["status"] for one in found)
    assert states == {"succeeded": done["counts"]["succeeded"], "cancelled": done["counts"]["cancelled"]}
    assert states["cancelled"] > 100
    assert until(ann, batch, ended)["counts"] == done["counts"]
    assert ann.delete(batch["links"]["self"]).json() == ann.get(batch["links"]["self"]).json()


def command(program: Program, *arguments: object) -> list[str]:
    own = [sys.executable, "-m", "service.cli.main", "classify", "--jsonl", "--server", program.url]
    return [*own, "--api-key", KEYS["ann"], *map(str, arguments)]


def test_a_manifest_goes_to_a_server_as_one_batch_that_is_gone_on_with(
    program: Program, ann: httpx.Client, s3: S3Server, clip: Path, tmp_path: Path
) -> None:
    urls = [s3.put(f"cli/{i}.mp4", clip.read_bytes()) for i in range(3)]
    manifest, output = tmp_path / "manifest.csv", tmp_path / "answers.jsonl"
    manifest.write_text("url,id,top_k\n" + "".join(f"{url},,2\n" for url in urls) + "s3://films/absent,gone,\n")
    run = subprocess.run(command(program, "--manifest", manifest, "-o", output), capture_output=True, text=True)
    assert run.returncode == 1, run.stderr
    found = {record["file"]: record for record in map(json.loads, output.read_text().splitlines())}
    assert found.keys() == {*urls, "gone"}
    assert found["gone"]["error"]["code"] == "source_refused"
    assert {len(found[url]["predictions"]) for url in urls} == {2}
    [batch, *_] = ann.get("/v1/batches").json()["batches"]
    assert batch["counts"] | {"total": 4, "succeeded": 3, "failed": 1} == batch["counts"]
    again = subprocess.run(
        command(program, "--manifest", manifest, "-o", output, "--resume"), capture_output=True, text=True
    )
    assert again.returncode == 1, again.stderr
    assert "3 of 4 files are in" in again.stderr
    [batch, *_] = ann.get("/v1/batches").json()["batches"]
    assert batch["counts"]["total"] == 1


def test_what_is_below_a_prefix_goes_to_a_server_as_one_batch_beside_files(
    program: Program, ann: httpx.Client, s3: S3Server, clip: Path, tmp_path: Path
) -> None:
    urls = [s3.put(f"below/2026/{i}.mp4", clip.read_bytes()) for i in range(3)]
    broken = s3.put("below/2026/broken.mp4", b"no video")
    s3.put("below/2026/notes.txt", b"no name of a video")
    before = len(ann.get("/v1/batches").json()["batches"])
    run = subprocess.run(
        command(program, "s3://films/below/2026/", clip, "--top-k", 2),
        env={
            **os.environ,
            "VIDTR_SOURCE_S3_ENDPOINT": s3.endpoint,
            "VIDTR_SOURCE_S3_CREDENTIALS_FILE": str(s3.credentials),
        },
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1, run.stderr
    found = {record["file"]: record for record in map(json.loads, run.stdout.splitlines())}
    assert found.keys() == {*urls, broken, str(clip)}
    assert {len(found[name]["predictions"]) for name in (*urls, str(clip))} == {2}
    assert found[broken]["error"]["code"] == "container_not_allowed"
    batches = ann.get("/v1/batches").json()["batches"]
    assert len(batches) == before + 1
    assert batches[0]["counts"] | {"total": 4, "succeeded": 3, "failed": 1} == batches[0]["counts"]


def test_ctrl_c_cancels_the_batch_of_the_command(
    program: Program, ann: httpx.Client, server: RangeServer, clip: Path, tmp_path: Path
) -> None:
    url, manifest = server.serve("/slow.mp4", Served(clip.read_bytes(), pause_s=0.2)), tmp_path / "manifest.csv"
    manifest.write_text("url\n" + f"{url}\n" * 100)
    run = subprocess.Popen(
        command(program, "--manifest", manifest),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell that runs the tests in the background has them ignore it, and what they start too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert run.stdout is not None
    assert run.stdout.readline()
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130, said
    [batch, *_] = ann.get("/v1/batches").json()["batches"]
    assert batch["status"] == "cancelled"
    assert batch["counts"]["cancelled"] > 0


def test_both_clients_send_follow_and_cancel_batches(program: Program, s3: S3Server, clip: Path) -> None:
    good = VideoUrl(s3.put("client.mp4", clip.read_bytes()))

    async def asynchronous() -> list[str]:
        async with AsyncClient(program.url, api_key=KEYS["bob"]) as client:
            batch = await client.create_batch([good, good], windows=1)
            states: list[str] = [result.status async for result in client.batch_results(batch.id, page_size=1)]
            assert (await client.cancel_batch(batch.id)).status == "completed"
            assert batch.id in [one.id async for one in client.batches(page_size=1)]
            assert (await client.batch(batch.id)).counts.succeeded == 2
            return states

    with Client(program.url, api_key=KEYS["bob"]) as client:
        batch = client.create_batch([good, good, {"source": {"url": "s3://films/absent"}}], windows=1)
        found = list(client.batch_results(batch.id, page_size=2))
        assert sorted((one.line, one.status) for one in found) == [(1, "succeeded"), (2, "succeeded"), (3, "failed")]
        assert [one.seq for one in client.batch_results(batch.id, after=1, wait=False)] == [2, 3]
        assert client.batch(batch.id).status == "completed"
        assert batch.id in [one.id for one in client.batches()]
        assert client.cancel_batch(batch.id).counts.cancelled == 0
    assert asyncio.run(asynchronous()) == 2 * ["succeeded"]


def test_a_batch_goes_on_where_the_process_that_drives_it_is_killed(
    program: Program, server: RangeServer, clip: Path
) -> None:
    urls = [server.serve(f"/killed{i}.mp4", Served(clip.read_bytes(), pause_s=0.05)) for i in range(24)]
    url, pid = program.other_api
    with caller(url, "ann") as driver, caller(program.first_url, "ann") as other:
        # The process that accepts a batch drives it.
        batch = send(driver, [*urls[:12], "s3://films/absent", *urls[12:]])
        until(driver, batch, lambda found: found["counts"]["succeeded"] >= 3)
        os.kill(pid, signal.SIGKILL)
        left = other.get(batch["links"]["self"]).json()
        assert left["status"] == "running"
        assert left["counts"]["running"] > 0
        done = until(other, batch, ended)
        found = results(other, batch)
        jobs = other.get("/v1/jobs", params={"limit": 100}).json()["jobs"]
    assert done["counts"] | {"total": 25, "succeeded": 24, "failed": 1} == done["counts"]
    assert sorted(one["line"] for one in found) == [*range(1, 26)]
    assert [one["seq"] for one in found] == [*range(1, 26)]
    assert {one["url"] for one in found if one["status"] == "succeeded"} == set(urls)
    # No line became two jobs.
    made = {job["id"] for job in jobs if job["created_at"] >= batch["created_at"]}
    assert made == {one["job"] for one in found if "job" in one}
    assert len(made) == 24
