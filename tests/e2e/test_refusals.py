"""What cannot be classified gets the documented code and a detail that says what is wrong; the server goes on."""

import http.client
import json
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from testing.program import Program, upload
from testing.videos import remux, truncated, write_audio, write_video


def playlist(path: Path) -> Path:
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n")
    return path


def concat(path: Path) -> Path:
    path.write_text("ffconcat version 1.0\nfile other.mp4\n")
    return path


def png(path: Path) -> Path:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" + bytes(24) * 8)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    return path


def wav(path: Path) -> Path:
    path.write_bytes(b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + bytes(32))
    return path


def written(data: bytes) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_bytes(data)
        return path

    return write


def moov_last_cut_off(path: Path) -> Path:
    return truncated(write_video(path.with_suffix(".mp4"), 60), path, 0.6)


REFUSED = {
    "an HLS playlist": (playlist, 415, "container_not_allowed", "playlist"),
    "an ffconcat text": (concat, 415, "container_not_allowed", "concat"),
    "a PNG": (png, 415, "container_not_allowed", "PNG"),
    "a WAV file": (wav, 415, "container_not_allowed", "WAV"),
    "an MP4 with sound only": (lambda p: write_audio(p.with_suffix(".mp4")), 422, "no_video_stream", "audio"),
    "an empty file": (written(b""), 422, "empty_upload", "0 bytes"),
    "ten random bytes": (
        written(bytes([7, 201, 33, 94, 180, 2, 250, 71, 138, 9])),
        415,
        "container_not_allowed",
        "",
    ),
    "an MP4 whose end is missing": (moov_last_cut_off, 422, "undecodable", ""),
    "a video of two frames": (lambda p: write_video(p.with_suffix(".mp4"), 2), 422, "video_too_short", "4"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_it_is_refused_with_its_code_and_the_server_still_answers(
    client: httpx.Client, clip: Path, tmp_path: Path, name: str
) -> None:
    make, status, code, word = REFUSED[name]
    response = upload(client, make(tmp_path / "upload"))
    assert response.headers["Content-Type"] == "application/problem+json"
    body = response.json()
    assert (response.status_code, body["status"], body["code"]) == (status, status, code)
    assert word in body["detail"]
    assert body["request_id"] == response.headers["X-Request-Id"]
    assert upload(client, clip).status_code == 200


def test_a_truncated_file_with_enough_frames_is_answered_with_a_warning(client: httpx.Client, tmp_path: Path) -> None:
    whole = remux(write_video(tmp_path / "whole.mp4", 120), tmp_path / "whole.mkv")
    response = upload(client, truncated(whole, tmp_path / "half.mkv", 0.6))
    assert response.status_code == 200
    assert {"truncated_video", "damaged_video"} & {warning["code"] for warning in response.json()["warnings"]}


def test_an_upload_over_the_limit_is_refused_before_its_body_arrives(program: Program) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", program.port, timeout=30)
    connection.putrequest("POST", "/v1/classify")
    connection.putheader("Content-Type", "video/mp4")
    connection.putheader("Content-Length", "20000001")
    connection.endheaders()
    response = connection.getresponse()
    body = json.load(response)
    connection.close()
    assert (response.status, body["code"]) == (413, "upload_too_large")
    assert (body["limit"], body["actual"]) == (20_000_000, 20_000_001)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"wndows": "3"}, "wndows"),
        ({"crops": "2"}, "crops"),
        ({"top_k": "0"}, "top_k"),
        ({"windows": "many"}, "windows"),
        ({"start": "-1"}, "start"),
        ({"attention": "all"}, "attention"),
    ],
)
def test_a_wrong_option_is_named(client: httpx.Client, clip: Path, query: dict[str, str], named: str) -> None:
    response = upload(client, clip, **query)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_option")
    assert named in response.json()["detail"]


def test_more_clips_than_allowed_are_refused_with_both_numbers(client: httpx.Client, clip: Path) -> None:
    body = upload(client, clip, windows=100, crops=3).json()
    assert (body["status"], body["code"], body["limit"], body["actual"]) == (422, "too_many_clips", 200, 300)


def test_an_unknown_model_is_a_404_that_names_the_served_ones(client: httpx.Client, clip: Path) -> None:
    response = upload(client, clip, model="nobody")
    assert (response.status_code, response.json()["code"]) == (404, "unknown_model")
    assert "camera_motion" in response.json()["detail"]


def test_an_unknown_job_is_a_404(client: httpx.Client) -> None:
    response = client.get("/v1/jobs/" + "0" * 32)
    assert (response.status_code, response.json()["code"]) == (404, "unknown_job")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [("GET", "/v1/nothing", "not_found"), ("PUT", "/v1/models", "method_not_allowed")],
)
def test_what_is_not_served_is_a_problem_too(client: httpx.Client, method: str, path: str, code: str) -> None:
    response = client.request(method, path)
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["code"] == code


def test_a_form_without_a_file_is_malformed(client: httpx.Client) -> None:
    boundary = {"Content-Type": "multipart/form-data; boundary=x"}
    response = client.post("/v1/classify", content=b"--x--\r\n", headers=boundary)
    assert (response.status_code, response.json()["code"]) == (400, "malformed_request")


def test_a_form_that_ends_early_is_malformed(client: httpx.Client) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc'
    response = client.post("/v1/classify", content=head, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert (response.status_code, response.json()["code"]) == (400, "malformed_request")


def test_an_unknown_form_field_is_named(client: httpx.Client, clip: Path) -> None:
    response = client.post("/v1/classify", data={"top_k": "3"}, files={"file": clip.read_bytes()})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_option")
    assert "top_k" in response.json()["detail"]


def test_another_content_type_is_unsupported(client: httpx.Client) -> None:
    response = client.post("/v1/classify", content=b"a video", headers={"Content-Type": "text/plain"})
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")


def test_a_client_that_hangs_up_mid_upload_leaves_the_server_well(
    program: Program, client: httpx.Client, clip: Path
) -> None:
    address = urlsplit(program.url)
    assert address.hostname is not None
    assert address.port is not None
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Type: video/mp4\r\n")
        connection.sendall(b"Content-Length: 100000\r\n\r\n" + clip.read_bytes()[:500])
    assert upload(client, clip).status_code == 200


def test_a_deadline_that_passes_while_decoding_is_a_504(client: httpx.Client, clip: Path) -> None:
    with clip.open("rb") as file:
        response = client.post("/v1/classify", files={"file": file}, headers={"X-Deadline-S": "0.001"})
    assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")
    assert response.json()["limit"] == 0.001
