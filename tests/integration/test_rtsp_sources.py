"""Streams over RTSP: what comes of a camera, what a hostile one says, and that it reaches nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpcore
import pytest

from service.contracts.rtp_records import DESCRIPTION, PACKET, RtpVideo, record
from service.live import pull
from service.sources.addresses import PinnedBackend
from tests.fixtures.live_sources import CONFIG, NAME, PUBLIC, Session, World, pull_into
from tests.fixtures.rtsp_camera import BYE, SDP, Camera, ok, packet

PICTURES = [b"\x80\x60" + bytes([n]) * 50 for n in range(5)]
VIDEO = RtpVideo(codec="h264", payload_type=96)
BEGUN = record(DESCRIPTION, VIDEO.model_dump_json().encode())
LOGINS = '[door]\nhost = "127.0.0.1"\nuser = "viewer"\npassword = "s3cret"\n'
CHALLENGE = ok('WWW-Authenticate: Digest realm="r", nonce="n1", qop="auth"', status="401 Unauthorized")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull, "_FIRST_PAUSE_S", 0.01)


def recorded(pictures: list[bytes]) -> bytes:
    return BEGUN + b"".join(record(PACKET, one) for one in pictures)


async def fetch(camera: Camera, **options: Any) -> Session:
    session = Session()
    await asyncio.wait_for(pull_into(options.pop("url", camera.url), session, **options), 30.0)
    return session


@pytest.fixture
def logins(tmp_path: Path) -> Path:
    path = tmp_path / "logins.toml"
    path.write_text(LOGINS)
    return path


async def test_the_packets_of_the_video_come_in_order_until_the_camera_leaves() -> None:
    others = [packet(b"sound", 2), packet(b"\x80\xc8\0\1\0\0\0\7", 1)]
    played = [one for n in PICTURES for one in (packet(n), *others)]
    async with Camera(played=[*played, BYE], stays=True).filming() as camera:
        session = await fetch(camera)
    assert (session.data, session.finished, session.notes) == (recorded(PICTURES), True, [])
    assert camera.methods == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY", "TEARDOWN"]
    assert camera.asked[2].startswith(f"SETUP {camera.url}/track1 RTSP/1.0\r\n")
    assert "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n" in camera.asked[2]
    assert "Session: 12345\r\n" in camera.asked[3]


async def test_the_channels_are_those_that_the_camera_says() -> None:
    said = ok("Session: 1", "Transport: RTP/AVP/TCP;unicast;interleaved=4-5;ssrc=00000007")
    played = [packet(b"other"), packet(PICTURES[0], 4), b"$\x05" + BYE[2:]]
    async with Camera({"SETUP": said}, played, stays=True).filming() as camera:
        session = await fetch(camera)
    assert (session.data, session.finished) == (recorded(PICTURES[:1]), True)


async def test_a_session_is_kept_alive_while_it_plays() -> None:
    said = ok("Session: 1;timeout=2", "Transport: RTP/AVP/TCP;interleaved=0-1")
    async with Camera(
        {"SETUP": said, "GET_PARAMETER": ok() + BYE}, [packet(PICTURES[0])], stays=True
    ).filming() as camera:
        session = await fetch(camera)
    assert (session.finished, camera.methods[-2:]) == (True, ["GET_PARAMETER", "TEARDOWN"])


async def test_a_camera_without_parameters_is_kept_alive_by_options() -> None:
    said = ok("Session: 1;timeout=2", "Transport: RTP/AVP/TCP;interleaved=0-1")
    answers: dict[str, bytes | Callable[[str], bytes]] = {"SETUP": said}
    answers["OPTIONS"] = lambda request: ok("Public: DESCRIBE, PLAY") + (BYE if "Session: 1" in request else b"")
    async with Camera(answers, stays=True).filming() as camera:
        assert (await fetch(camera)).finished
    assert camera.methods.count("OPTIONS") == 2


async def test_a_camera_that_asks_the_service_something_is_answered() -> None:
    played = [b"OPTIONS rtsp://h/ RTSP/1.0\r\nCSeq: 77\r\n\r\n", packet(PICTURES[0]), BYE]
    async with Camera(played=played, stays=True).filming() as camera:
        session = await fetch(camera)
    assert session.data == recorded(PICTURES[:1])
    assert any(one.startswith("RTSP/1.0 200 OK\r\nCSeq: 77\r\n") for one in camera.asked)


async def test_a_connection_that_breaks_off_is_made_again_and_the_stream_goes_on() -> None:
    async with Camera(played=[packet(PICTURES[0])]).filming() as camera:
        session = Session()
        fetching = asyncio.create_task(pull_into(camera.url, session))
        await session.noted.wait()
        camera.played, camera.stays = [packet(PICTURES[1]), BYE], True
        await asyncio.wait_for(fetching, 30.0)
    assert {state for state, _ in session.notes} == {"reconnecting"}
    assert session.data.startswith(recorded(PICTURES[:1]))
    assert session.data.endswith(recorded(PICTURES[1:2]))
    assert session.finished


async def test_a_camera_that_sends_no_picture_is_given_up() -> None:
    flood = [packet(b"\x80\xc8\0\1\0\0\0\7", 1)] * 3
    async with Camera(played=flood, stays=True).filming() as camera:
        session = await fetch(camera, idle_s=0.2, reconnect_s=0.1)
    assert session.error is not None
    assert session.error.code == "source_unavailable"
    assert "no packet of the video for 0.2 s" in session.error.detail


async def test_a_camera_that_dribbles_its_answer_is_given_up() -> None:
    config = replace(CONFIG, source_timeout_s=0.3)
    async with Camera({"DESCRIBE": b"RTSP/1.0 200 OK\r\n"}, stays=True).filming() as camera:
        session = await fetch(camera, config=config, reconnect_s=0.1)
    assert session.error is not None
    assert "did not begin to play within 0.3 s" in session.error.detail


async def test_a_name_of_credentials_answers_the_challenge_and_the_password_shows_nowhere(logins: Path) -> None:
    def described(request: str) -> bytes:
        return ok(body=SDP) if "Authorization: Digest" in request else CHALLENGE

    async with Camera({"DESCRIBE": described}, [packet(PICTURES[0]), BYE], stays=True).filming() as camera:
        session = await fetch(camera, credentials="door", logins=logins)
    assert session.data == recorded(PICTURES[:1])
    assert camera.methods[:3] == ["OPTIONS", "DESCRIBE", "DESCRIBE"]
    assert "nc=00000002" in camera.asked[3]
    assert "s3cret" not in "".join(camera.asked)


async def test_a_challenge_that_has_grown_old_is_answered_anew(logins: Path) -> None:
    def described(request: str) -> bytes:
        if 'nonce="n2"' in request:
            return ok(body=SDP)
        stale = 'WWW-Authenticate: Digest realm="r", nonce="n2", stale=TRUE'
        return ok(stale, status="401 Unauthorized") if 'nonce="n1"' in request else CHALLENGE

    answers: dict[str, bytes | Callable[[str], bytes]] = {"DESCRIBE": described}
    answers["OPTIONS"] = lambda request: ok() if "Authorization" in request else CHALLENGE
    async with Camera(answers, [packet(PICTURES[0]), BYE], stays=True).filming() as camera:
        assert (await fetch(camera, credentials="door", logins=logins)).finished


@pytest.mark.parametrize("named", [True, False])
async def test_a_camera_that_accepts_nobody_is_refused(logins: Path, *, named: bool) -> None:
    async with Camera({"DESCRIBE": CHALLENGE}, stays=True).filming() as camera:
        session = await fetch(camera, credentials="door" if named else None, logins=logins)
    assert session.error is not None
    assert (session.error.code, session.error.actual) == ("source_refused", 401)
    assert camera.methods.count("DESCRIBE") == 1 + named


async def test_credentials_are_not_sent_to_another_host(logins: Path) -> None:
    # It is the same machine by another name, which the credentials are not for.
    async with Camera().filming() as camera:
        away = ok(f"Location: rtsp://localhost:{camera.port}/cam", status="302 Found")
        camera.answers["DESCRIBE"] = lambda request: away if "127.0.0.1" in request else CHALLENGE
        session = await fetch(camera, credentials="door", logins=logins)
    assert session.error is not None
    assert session.error.code == "source_not_allowed"
    assert not any("localhost" in one for one in camera.asked)


async def test_a_redirect_is_followed_as_often_as_it_may_be() -> None:
    async with Camera(played=[packet(PICTURES[0]), BYE], stays=True).filming() as camera:
        target = f"rtsp://127.0.0.1:{camera.port}/there"
        moved = ok(f"Location: {target}", status="301 Moved Permanently")
        camera.answers["DESCRIBE"] = lambda request: ok(body=SDP) if "/there" in request else moved
        assert (await fetch(camera)).data == recorded(PICTURES[:1])
        camera.answers["DESCRIBE"] = moved
        session = await fetch(camera)
    assert session.error is not None
    assert (session.error.code, session.error.limit) == ("source_refused", CONFIG.source_max_redirects)


@pytest.mark.parametrize(
    ("base", "control", "asked"),
    [
        ("rtsp://10.0.0.7:8554/inner/", "track1", "/inner/track1"),
        ("rtsp://evil.example.com/a?b=1", "track1", "/a?b=1/track1"),
        ("http://169.254.169.254/latest", "*", "/latest"),
        ("//10.0.0.7/x", "", "/x"),
        ("", "rtsp://10.0.0.7/a/track2?x=y", "/a/track2?x=y"),
        ("", "/elsewhere/track", "/elsewhere/track"),
        ("", "track1", "/cam/track1"),
    ],
)
async def test_what_is_asked_for_is_always_at_the_host_that_was_checked(base: str, control: str, asked: str) -> None:
    described = ok(f"Content-Base: {base}", body=SDP.replace("track1", control))
    async with Camera({"DESCRIBE": described}, [packet(PICTURES[0]), BYE], stays=True).filming() as camera:
        session = await fetch(camera)
    assert session.data == recorded(PICTURES[:1])
    assert camera.asked[2].startswith(f"SETUP rtsp://127.0.0.1:{camera.port}{asked} RTSP/1.0\r\n")
    assert camera.connections == 1
    assert all(f"127.0.0.1:{camera.port}" in one.split("\r\n")[0] for one in camera.asked)


ENDLESS = b"RTSP/1.0 200 OK\r\nCSeq: CSEQ\r\n" + b"X: " + b"y" * 200_000
REFUSED = [
    ("OPTIONS", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "source_refused"),
    ("OPTIONS", ENDLESS, "source_limit"),
    ("DESCRIBE", b"RTSP/1.0 200 OK\r\nCSeq: CSEQ\r\n" + b"A: 1\r\n" * 200 + b"\r\n", "source_limit"),
    ("DESCRIBE", ok("Content-Length: 99999999"), "source_limit"),
    ("DESCRIBE", ok(body="v=0\r\nm=audio 0 RTP/AVP 0\r\n"), "source_refused"),
    ("DESCRIBE", ok(body="\x00" * 5000), "source_refused"),
    ("DESCRIBE", ok(status="404 Not Found"), "source_refused"),
    ("DESCRIBE", ok("Content-Base: rtsp://h/a b", body=SDP), "source_refused"),
    ("DESCRIBE", ok("Content-Base: rtsp://[::1/", body=SDP), "source_refused"),
    ("DESCRIBE", ok("Content-Base: " + "x" * 3000, body=SDP), "source_refused"),
    ("DESCRIBE", ok(body=SDP.replace("track1", "a\tb")), "source_refused"),
    ("SETUP", ok(status="461 Unsupported Transport"), "source_refused"),
    ("SETUP", ok("Session: 1", "Transport: RTP/AVP;unicast;client_port=5000-5001"), "source_refused"),
    ("SETUP", ok("Session: 1", "Transport: RTP/AVP/TCP;interleaved=300-301"), "source_refused"),
    ("SETUP", ok("Session: a b", "Transport: RTP/AVP/TCP;interleaved=0-1"), "source_refused"),
    ("SETUP", ok("Transport: RTP/AVP/TCP;interleaved=0-1"), "source_refused"),
    ("PLAY", ok(status="455 Method Not Valid in This State"), "source_refused"),
    ("PLAY", ok() + b"$\x00\xff\xff" + bytes(65535) + b"garbage\r\n", "source_refused"),
]


@pytest.mark.parametrize(("method", "answer", "code"), REFUSED)
async def test_what_a_hostile_camera_says_is_refused_with_its_code(method: str, answer: bytes, code: str) -> None:
    async with Camera({method: answer}, stays=True).filming() as camera:
        session = await fetch(camera)
    assert session.error is not None
    assert session.error.code == code
    assert camera.connections == 1


@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Service Unavailable", "453 Not Enough Bandwidth"])
async def test_a_camera_that_is_busy_is_asked_again(status: str) -> None:
    async with Camera(played=[packet(PICTURES[0]), BYE], stays=True).filming() as camera:
        camera.answers["DESCRIBE"] = lambda _: ok(body=SDP) if camera.connections > 2 else ok(status=status)
        session = await fetch(camera)
    assert [state for state, _ in session.notes] == ["reconnecting"] * 2
    assert session.finished


HOSTILE = [
    "rtsp://camera.example.com/a",
    "rtsps://127.0.0.1/a",
    "rtsps://[::1]/a",
    "rtsps://[::ffff:10.0.0.1]/a",
    "rtsps://169.254.169.254/latest/meta-data",
    "rtsps://10.1.2.3/a",
    "rtsps://2130706433/a",
    "rtsps://0x7f.1/a",
    "rtsps://rebinding.example.com/a",
    "rtsps://user:secret@camera.example.com/a",
    "rtsps://camera.example.com:0/a",
    "rtsps://camera.example.com:99999/a",
    "rtsps://[::1/a",
    "rtsps://other.example.org/a",
    "https://camera.example.com/a.ts",
    "http://127.0.0.1/a.ts",
    "srt://camera.example.com:9000",
    "file:///etc/passwd",
    "//127.0.0.1/a",
    "/a",
]


# Other schemes than those of RTSP go another way, if they are asked for.
WAYS = [(url, where) for url in HOSTILE for where in ("source", "redirect", "redirect of options")]


@pytest.mark.parametrize(("url", "where"), [way for way in WAYS if way[0].startswith("rtsp") or way[1] != "source"])
async def test_a_hostile_url_reaches_nothing(url: str, where: str) -> None:
    config = replace(CONFIG, source_private_targets=False, source_hosts=("example.com", "*.1", "127.0.0.1"))

    async def resolve(host: str, port: int) -> list[str]:
        known = {NAME: [PUBLIC], "rebinding.example.com": [PUBLIC, "10.0.0.1"]}
        return known.get(host, ["127.0.0.1" if "7f" in host or host.isdecimal() else host])

    away = ok(f"Location: {url}", status="302 Moved")
    async with Camera(stays=True).filming() as camera:
        camera.answers = {"DESCRIBE": away} if where == "redirect" else {"OPTIONS": away}
        world = World(camera.port)
        begin = url if where == "source" else f"rtsps://{NAME}/a"
        backend = PinnedBackend(private=False, resolve=resolve, inner=world)
        session = await fetch(camera, url=begin, config=config, backend=backend, reconnect_s=0.05)
    assert session.error is not None
    assert session.error.code in ("source_not_allowed", "source_unavailable")
    assert session.data == b""
    assert {host for host, _ in world.reached} <= ({PUBLIC} if where != "source" else set())
    assert camera.connections == len(world.reached)


async def test_the_address_that_was_checked_is_the_one_that_is_connected_to() -> None:
    resolved = 0

    async def resolve(host: str, port: int) -> list[str]:
        nonlocal resolved
        resolved += 1
        return [PUBLIC] if resolved == 1 else ["127.0.0.1"]

    config = replace(CONFIG, source_private_targets=False)
    async with Camera(played=[packet(PICTURES[0])]).filming() as camera:
        world: httpcore.AsyncNetworkBackend = World(camera.port)
        backend = PinnedBackend(private=False, resolve=resolve, inner=world)
        session = await fetch(camera, url=f"rtsps://{NAME}/a", config=config, backend=backend)
    # The name leads elsewhere the second time, when the connection is made again.
    assert session.data == recorded(PICTURES[:1])
    assert session.error is not None
    assert (session.error.code, camera.connections) == ("source_not_allowed", 1)
