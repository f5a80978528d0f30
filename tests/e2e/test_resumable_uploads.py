"""Uploads that arrive in pieces, over broken connections, through several processes, by a client that is not ours."""

import base64
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from tusclient.client import TusClient

from service.client import AsyncClient, Client
from testing.program import Program, Size, upload
from testing.videos import write_video
from tests.fixtures.cutting_proxy import CuttingProxy

BYTES = int(os.environ.get("VIDTR_RESUMED_BYTES", "12000000"))
CUTS = 20
TUS = {"Tus-Resumable": "1.0.0"}
PIECE = {**TUS, "Content-Type": "application/offset+octet-stream"}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Two API processes that share a spool, and one port before them."""
    folder = tmp_path_factory.mktemp("resumable")
    program = Program(folder, size=Size(2, 1), VIDTR_SPOOL_DIR=str(folder / "spool"), VIDTR_MAX_RESUMABLE_UPLOADS="40")
    with program:
        yield program


def begun(client: httpx.Client, length: int, **headers: str) -> str:
    answer = client.post("/v1/uploads", headers={**TUS, "Upload-Length": str(length), **headers})
    assert answer.status_code == 201
    return answer.headers["Location"]


def sent(client: httpx.Client, location: str, offset: int, data: bytes, **headers: str) -> httpx.Response:
    return client.patch(location, content=data, headers={**PIECE, "Upload-Offset": str(offset), **headers})


def offset_of(client: httpx.Client, location: str) -> int:
    return int(client.head(location, headers=TUS).headers["Upload-Offset"])


def by_reference(client: httpx.Client, location: str, **headers: str) -> httpx.Response:
    return client.post("/v1/classify", json={"upload": location.rpartition("/")[2]}, headers=headers)


def test_the_server_says_what_it_can(client: httpx.Client) -> None:
    answer = client.options("/v1/uploads")
    assert answer.status_code == 204
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert {"creation", "checksum", "expiration", "termination"} <= set(answer.headers["Tus-Extension"].split(","))
    assert int(answer.headers["Tus-Max-Size"]) == 8 << 30


def test_what_arrives_in_pieces_gets_the_answer_of_one_request(client: httpx.Client, clip: Path) -> None:
    data = clip.read_bytes()
    location = begun(client, len(data))
    for first in range(0, len(data), 5000):
        assert sent(client, location, first, data[first : first + 5000]).status_code == 204
    answer, direct = by_reference(client, location), upload(client, clip)
    assert answer.status_code == 200
    for part in ("predictions", "windows", "video"):
        assert answer.json()[part] == direct.json()[part]


def test_an_upload_can_be_classified_again(client: httpx.Client, clip: Path) -> None:
    data = clip.read_bytes()
    location = begun(client, len(data))
    sent(client, location, 0, data)
    assert [by_reference(client, location).status_code for _ in range(2)] == [200, 200]


def test_an_idempotency_key_knows_a_video_however_it_came(client: httpx.Client, clip: Path) -> None:
    data = clip.read_bytes()
    location = begun(client, len(data))
    sent(client, location, 0, data)
    key = {"Idempotency-Key": "however it came"}
    direct = client.post("/v1/classify", content=data, headers={"Content-Type": "video/mp4", **key})
    assert by_reference(client, location, **key).json()["id"] == direct.json()["id"]


def test_an_upload_that_is_not_complete_is_not_classified(client: httpx.Client) -> None:
    location = begun(client, 10)
    sent(client, location, 0, b"abc")
    refused = by_reference(client, location)
    assert (refused.status_code, refused.json()["code"]) == (409, "upload_incomplete")
    assert (refused.json()["limit"], refused.json()["actual"]) == (10, 3)


@pytest.mark.parametrize("body", ["", "{}", "[]", '{"upload": "../etc"}', '{"upload": 1, "x": 2}', f'"{"a" * 20_000}"'])
def test_json_that_names_no_upload_is_refused(client: httpx.Client, body: str) -> None:
    refused = client.post("/v1/classify", content=body, headers={"Content-Type": "application/json"})
    assert (refused.status_code, refused.json()["code"]) == (400, "malformed_request")


def test_the_first_piece_may_come_with_the_announcement(client: httpx.Client) -> None:
    answer = client.post("/v1/uploads", content=b"abc", headers={**PIECE, "Upload-Length": "10"})
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (201, "3")


def test_a_client_that_speaks_no_tus_can_ask_how_an_upload_stands(client: httpx.Client) -> None:
    location = begun(client, 10)
    sent(client, location, 0, b"abc")
    answer = client.get(location)
    assert (answer.json()["offset"], answer.json()["length"], answer.headers["Upload-Offset"]) == (3, 10, "3")
    assert client.get(location, headers={"Tus-Resumable": "0.2.2"}).json()["code"] == "tus_version"


def test_metadata_come_back(client: httpx.Client) -> None:
    text = f"filename {base64.b64encode(b'a.mp4').decode()}"
    location = begun(client, 10, **{"Upload-Metadata": text})
    assert client.head(location, headers=TUS).headers["Upload-Metadata"] == text


def test_a_piece_with_a_wrong_checksum_is_dropped(client: httpx.Client) -> None:
    location = begun(client, 10)
    wrong = base64.b64encode(hashlib.sha256(b"abc").digest()).decode()
    refused = sent(client, location, 0, b"abd", **{"Upload-Checksum": f"sha256 {wrong}"})
    assert (refused.status_code, refused.json()["code"]) == (460, "checksum_mismatch")
    assert offset_of(client, location) == 0
    assert sent(client, location, 0, b"abc", **{"Upload-Checksum": f"sha256 {wrong}"}).status_code == 204


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Content-Type": PIECE["Content-Type"], "Upload-Offset": "0"}, 412, "tus_version"),
        ({**TUS, "Content-Type": "video/mp4", "Upload-Offset": "0"}, 415, "unsupported_media_type"),
        ({**PIECE, "Upload-Offset": "7"}, 409, "upload_offset_mismatch"),
        (PIECE, 400, "malformed_request"),
    ],
)
def test_a_piece_that_does_not_fit_is_refused(
    client: httpx.Client, headers: dict[str, str], status: int, code: str
) -> None:
    refused = client.patch(begun(client, 10), content=b"abc", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert refused.headers["Tus-Resumable"] == "1.0.0"


def test_more_than_was_announced_is_refused(client: httpx.Client) -> None:
    refused = sent(client, begun(client, 2), 0, b"abc")
    assert (refused.status_code, refused.json()["limit"], refused.json()["actual"]) == (413, 2, 3)


def test_what_is_deleted_is_gone(client: httpx.Client) -> None:
    location = begun(client, 10)
    assert client.delete(location, headers=TUS).status_code == 204
    assert client.head(location, headers=TUS).status_code == 404
    assert sent(client, location, 0, b"abc").json()["code"] == "unknown_upload"


def test_a_proxy_that_knows_only_post_is_no_obstacle(client: httpx.Client) -> None:
    location = begun(client, 3)
    patched = client.post(
        location, content=b"abc", headers={**PIECE, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    )
    assert (patched.status_code, patched.headers["Upload-Offset"]) == (204, "3")
    assert client.post(location, headers=TUS).json()["code"] == "method_not_allowed"


def test_an_upload_over_a_connection_that_breaks_again_and_again_arrives_whole(program: Program) -> None:
    data = random.Random(1).randbytes(BYTES)
    limits = [random.Random(2).randrange(1000, 2 * BYTES // CUTS) for _ in range(CUTS)]
    digest = hashlib.sha256(data).hexdigest()
    with CuttingProxy(program.port, cuts=CUTS + 1, after_bytes=[1 << 20, *limits]) as proxy:
        uploader = TusClient(f"{proxy.url}/v1/uploads").uploader(
            file_stream=io.BytesIO(data), metadata={"sha256": digest}, retries=200, retry_delay=0
        )
        uploader.upload()
        assert proxy.connections > CUTS
    with program.client() as client:
        # Its digest was compared when its last byte came.
        assert offset_of(client, str(urlsplit(uploader.url).path)) == BYTES


def cutting(program: Program, video: Path) -> CuttingProxy:
    """A line that breaks again and again in the middle of a video."""
    return CuttingProxy(program.port, cuts=4, after_bytes=[video.stat().st_size // 3] * 4)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So large that what arrived before a cut is more than what is on its way."""
    noise = np.random.default_rng(0).integers(0, 255, (24, 360, 640, 3), np.uint8)
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    options = {"crf": "10", "preset": "ultrafast"}
    return write_video(path, 24, size=(640, 360), draw=lambda number, *_: noise[number], codec_options=options)


def test_the_client_sends_the_rest_after_a_cut(program: Program, client: httpx.Client, film: Path) -> None:
    direct = upload(client, film).json()["predictions"]
    with cutting(program, film) as proxy, Client(proxy.url) as sending:
        result = sending.classify(film, resumable=True)
        assert proxy.connections > 3
    assert json.loads(result.model_dump_json())["predictions"] == direct


async def test_the_async_client_sends_the_rest_after_a_cut(program: Program, film: Path) -> None:
    with cutting(program, film) as proxy:
        async with AsyncClient(proxy.url) as sending:
            job = await sending.submit(film, resumable=True)
            assert (await sending.wait(job.id)).predictions
        assert proxy.connections > 3


def test_the_command_sends_the_rest_after_a_cut(program: Program, film: Path) -> None:
    command = [sys.executable, "-m", "service.cli.main", "classify", str(film), "--resumable", "--json"]
    with cutting(program, film) as proxy:
        ran = subprocess.run([*command, "--server", proxy.url], capture_output=True, check=True)
        assert proxy.connections > 3
    [answer] = json.loads(ran.stdout)
    assert answer["predictions"]


def test_a_client_that_is_done_leaves_no_pieces(program: Program, film: Path) -> None:
    pieces = program.directory / "spool" / "resumable"
    before = set(pieces.glob("*.upload"))
    with Client(program.url) as sending:
        sending.classify(film, resumable=True)
    assert set(pieces.glob("*.upload")) == before


def test_of_two_clients_that_send_at_a_time_one_is_refused_and_nothing_is_mixed(program: Program) -> None:
    length, go = 4 << 20, threading.Barrier(2)
    with program.client() as client:
        location = begun(client, length)
    statuses: list[int] = []

    def send(letter: bytes) -> None:
        def body() -> Iterator[bytes]:
            go.wait()
            yield from (letter * (1 << 20) for _ in range(4))

        with program.client() as client:
            headers = {**PIECE, "Upload-Offset": "0"}
            statuses.append(client.patch(location, content=body(), headers=headers).status_code)

    senders = [threading.Thread(target=send, args=(letter,)) for letter in (b"a", b"b")]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert sorted(statuses) in ([204, 409], [204, 423])
    [stored] = (program.directory / "spool" / "resumable").glob(f"{location.rpartition('/')[2]}.upload")
    assert len(set(stored.read_bytes())) == 1
