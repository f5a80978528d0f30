"""Videos by URL: the answer of an upload, for a few of its bytes."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.client import Client, VideoUrl
from testing.object_stores import S3Server
from testing.program import Program, upload
from testing.range_server import RangeServer, Served
from testing.videos import repeated, write_video

MINUTES_OF_FILM = 60
Options = dict[str, str | int]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, s3: S3Server) -> Iterator[Program]:
    program = Program(
        tmp_path_factory.mktemp("sources"),
        VIDTR_SOURCE_HOSTS="127.0.0.1",
        VIDTR_SOURCE_PRIVATE_TARGETS="true",
        VIDTR_SOURCE_BUCKETS="s3://films",
        VIDTR_SOURCE_S3_ENDPOINT=s3.endpoint,
        VIDTR_SOURCE_S3_CREDENTIALS_FILE=str(s3.credentials),
    )
    with program:
        yield program


@pytest.fixture(scope="module")
def server() -> Iterator[RangeServer]:
    with RangeServer() as server:
        yield server


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An hour, with its index at the end."""
    folder = tmp_path_factory.mktemp("film")
    pictures = np.random.default_rng(0).integers(0, 255, (12, 180, 320, 3), np.uint8)

    def draw(number: int, width: int, height: int) -> Any:
        picture = pictures[number % 12].copy()
        picture[:, number * 3 % width :][:, :30] = 255
        return picture

    piece = write_video(
        folder / "piece.mp4",
        300,
        size=(320, 180),
        draw=draw,
        gop=60,
        codec_options={"crf": "40", "preset": "ultrafast"},
    )
    return repeated(piece, folder / "film.mp4", 6 * MINUTES_OF_FILM)


def by_url(client: httpx.Client, url: str, options: Options | None = None, key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post("/v1/classify", json={"source": {"url": url}}, params=options, headers=headers)


def same(answer: httpx.Response, direct: httpx.Response) -> None:
    assert (answer.status_code, direct.status_code) == (200, 200)
    for part in ("predictions", "windows", "video"):
        assert answer.json()[part] == direct.json()[part]


@pytest.mark.parametrize("options", [{"windows": 1}, {"windows": "auto"}, {"windows": 2, "start": 1800}])
def test_a_film_by_url_gets_the_answer_of_its_upload_for_a_few_of_its_bytes(
    client: httpx.Client, server: RangeServer, film: Path, options: Options
) -> None:
    answer = by_url(client, server.serve("/film.mp4", Served(film.read_bytes())), options)
    same(answer, upload(client, film, **options))
    source = answer.json()["source"]
    assert source["bytes_total"] == film.stat().st_size
    assert source["bytes_read"] < 0.06 * source["bytes_total"]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["mkv", "ts"])
def test_a_film_without_an_index_of_its_packets_needs_few_bytes_too(
    client: httpx.Client, server: RangeServer, film: Path, suffix: str
) -> None:
    path = repeated(film.parent / "piece.mp4", film.with_suffix(f".{suffix}"), 6 * MINUTES_OF_FILM)
    served = Served(path.read_bytes())
    answer = by_url(client, server.serve(f"/film.{suffix}", served))
    same(answer, upload(client, path))
    assert answer.json()["source"]["bytes_read"] < 0.06 * path.stat().st_size
    served.cut_after, served.failing = 100_000, lambda number: 500 if number % 3 == 1 else None
    same(by_url(client, server.serve(f"/film.{suffix}", served)), answer)
    served = Served(served.data, changes_at=4)
    changed = by_url(client, server.serve(f"/film.{suffix}", served))
    assert (changed.status_code, changed.json()["code"]) == (409, "source_changed")


def test_a_film_in_a_bucket_gets_the_answer_of_its_upload_for_a_few_of_its_bytes(
    client: httpx.Client, s3: S3Server, film: Path
) -> None:
    answer = by_url(client, s3.put("film.mp4", film.read_bytes()), {"windows": 1})
    same(answer, upload(client, film, windows=1))
    assert answer.json()["source"]["bytes_read"] < 0.06 * answer.json()["source"]["bytes_total"]


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        ("s3://films/absent", 422, "source_refused"),
        ("s3://other/film.mp4", 403, "source_not_allowed"),
        ("gs://films/film.mp4", 403, "source_not_allowed"),
    ],
)
def test_an_object_that_is_not_given_has_a_code(client: httpx.Client, url: str, status: int, code: str) -> None:
    refused = by_url(client, url)
    assert (refused.status_code, refused.json()["code"]) == (status, code)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "ts", "avi", "flv"])
def test_every_container_may_come_by_url(
    client: httpx.Client, server: RangeServer, tmp_path: Path, suffix: str
) -> None:
    codec = "libvpx" if suffix == "webm" else "libx264"
    video = write_video(tmp_path / f"video.{suffix}", 90, size=(96, 64), codec=codec)
    same(by_url(client, server.serve(f"/video.{suffix}", Served(video.read_bytes()))), upload(client, video))


@pytest.mark.parametrize(
    "served",
    [
        Served(b"", ranges=False),
        Served(b"", cut_after=70_000),
        Served(b"", failing=lambda number: 500 if number % 3 == 1 else None),
        Served(b"", etag=None),
        Served(b"", pause_s=0.1),
    ],
    ids=["without ranges", "that breaks off", "that fails in between", "without an ETag", "that is slow"],
)
def test_a_server_of_any_kind_gives_the_right_answer(
    client: httpx.Client, server: RangeServer, film: Path, served: Served
) -> None:
    served.data = _piece(film)
    same(by_url(client, server.serve("/piece.mp4", served)), upload(client, film.parent / "piece.mp4"))


def _piece(film: Path) -> bytes:
    return (film.parent / "piece.mp4").read_bytes()


@pytest.mark.parametrize(
    ("served", "status", "code"),
    [
        (Served(b"x" * 100_000, changes_at=2), 415, "container_not_allowed"),
        (Served(b""), 422, "empty_upload"),
        (Served(b"x", failing=lambda number: 404), 422, "source_refused"),
        (Served(b"x", failing=lambda number: 500), 502, "source_unavailable"),
        (Served(b"x", location="http://169.254.169.254/latest/meta-data"), 403, "source_not_allowed"),
        (Served(b"x", location="file:///etc/passwd"), 403, "source_not_allowed"),
        (Served(b"x", headers={"Content-Encoding": "gzip"}), 422, "source_refused"),
    ],
)
def test_what_cannot_be_fetched_has_a_code(
    client: httpx.Client, server: RangeServer, served: Served, status: int, code: str
) -> None:
    refused = by_url(client, server.serve("/broken", served))
    assert (refused.status_code, refused.json()["code"]) == (status, code)


def test_a_film_that_changes_while_it_is_read_is_no_answer(
    client: httpx.Client, server: RangeServer, film: Path
) -> None:
    refused = by_url(client, server.serve("/film.mp4", Served(film.read_bytes(), changes_at=3)))
    assert (refused.status_code, refused.json()["code"]) == (409, "source_changed")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a.mp4",
        "http://localhost/a",
        "http://[::1]/a",
        "file:///etc/passwd",
        "",
        "x",
    ],
)
def test_a_url_where_nothing_may_be_fetched_is_refused(client: httpx.Client, url: str) -> None:
    refused = by_url(client, url)
    assert (refused.status_code, refused.json()["code"]) == (403, "source_not_allowed")


def test_the_client_and_the_command_take_urls(program: Program, server: RangeServer, film: Path) -> None:
    url = server.serve("/piece.mp4", Served(_piece(film)))
    with Client(program.url) as client:
        result = client.classify(VideoUrl(url))
    assert result.source is not None
    ran = subprocess.run(
        [sys.executable, "-m", "service.cli.main", "classify", url, "--server", program.url, "--json"],
        capture_output=True,
        check=True,
    )
    [answer] = json.loads(ran.stdout)
    assert answer["file"] == url
    assert answer["predictions"] == json.loads(result.model_dump_json())["predictions"]


def test_an_idempotency_key_knows_a_source(client: httpx.Client, server: RangeServer, film: Path) -> None:
    url, key = server.serve("/piece.mp4", Served(_piece(film))), "a source"
    assert by_url(client, url, key=key).json()["id"] == by_url(client, url, key=key).json()["id"]
    server.serve("/piece.mp4", Served(_piece(film), etag='"other"'))
    assert by_url(client, url, key=key).json()["code"] == "idempotency_key_reused"


async def test_a_slow_source_holds_up_no_upload(program: Program, server: RangeServer, film: Path, clip: Path) -> None:
    slow = server.serve("/slow.mp4", Served(film.read_bytes(), pause_s=0.5))
    async with httpx.AsyncClient(base_url=program.url, timeout=120) as client:
        waiting = [
            asyncio.create_task(client.post("/v1/classify?windows=1", json={"source": {"url": slow}})) for _ in range(2)
        ]
        await asyncio.sleep(0.5)
        answer = await client.post("/v1/classify", content=clip.read_bytes(), headers={"Content-Type": "video/mp4"})
        assert answer.status_code == 200
        assert not all(task.done() for task in waiting)
        assert {(await task).status_code for task in waiting} <= {200, 503}
