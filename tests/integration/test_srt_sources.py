"""Streams over SRT: what comes of a real listener, and that a hostile URL starts no process."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from service.live import pull
from service.sources import srt_client
from service.sources.addresses import PinnedBackend
from service.sources.srt_client import MOST_LATENCY_MS, TOOL
from testing.videos import write_video
from tests.fixtures.live_sources import CONFIG, NAME, PUBLIC, Session, pull_into
from tests.fixtures.srt_listener import listener, needs_tool

LOGINS = (
    '[door]\nhost = "127.0.0.1"\npassword = "{}"\n[away]\nhost = "camera.example.com"\npassword = "passphrase123"\n'
)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull, "_FIRST_PAUSE_S", 0.01)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_video(tmp_path_factory.mktemp("srt") / "a.ts", 100, fps=25, gop=25).read_bytes()


async def until(session: Session, size: int, fetching: asyncio.Task[None]) -> None:
    """Return once so many bytes have come; what fetches them is ended then."""
    async with asyncio.timeout(30.0):
        while len(session.data) < size:
            session.came.clear()
            await session.came.wait()
    fetching.cancel()
    await asyncio.gather(fetching, return_exceptions=True)


def tools() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if "mode=caller" in " ".join(one.cmdline())]


@needs_tool
@pytest.mark.parametrize("encrypted", [False, True])
async def test_what_a_listener_sends_comes_as_it_was(tmp_path: Path, recording: bytes, *, encrypted: bool) -> None:
    logins = tmp_path / "logins.toml"
    logins.write_text(LOGINS.format("passphrase123"))
    with listener(recording, "&passphrase=passphrase123" if encrypted else "") as url:
        session, name = Session(), "door" if encrypted else None
        called = f"{url}?latency=200&streamid=%23!::r=live,m=request"
        fetching = asyncio.create_task(pull_into(called, session, credentials=name, logins=logins, reconnect_s=20.0))
        await until(session, 20_000, fetching)
    assert session.data in recording * 10
    assert tools() == []


@needs_tool
async def test_a_wrong_passphrase_is_a_source_that_cannot_be_had_and_shows_nowhere(
    tmp_path: Path, recording: bytes
) -> None:
    logins, session = tmp_path / "logins.toml", Session()
    logins.write_text(LOGINS.format("wrongwrongwrong"))
    with listener(recording, "&passphrase=passphrase123") as url:
        await asyncio.wait_for(pull_into(url, session, credentials="door", logins=logins, reconnect_s=0.05), 30.0)
    assert session.error is not None
    assert session.error.code == "source_unavailable"
    assert "wrongwrong" not in session.error.detail + str(session.notes)


@needs_tool
async def test_a_listener_that_goes_away_is_called_again(recording: bytes) -> None:
    session = Session()
    with listener(recording) as url:
        fetching = asyncio.create_task(pull_into(url, session, idle_s=1.0, reconnect_s=20.0))
        async with asyncio.timeout(30.0):
            await session.came.wait()
    async with asyncio.timeout(30.0):
        await session.noted.wait()
    assert session.notes[0][0] == "reconnecting"
    fetching.cancel()
    await asyncio.gather(fetching, return_exceptions=True)
    assert tools() == []


async def refusal(url: str, **options: object) -> str:
    session = Session()
    await asyncio.wait_for(pull_into(url, session, reconnect_s=0.05, **options), 30.0)  # type: ignore[arg-type]
    assert session.error is not None
    assert session.data == b""
    return f"{session.error.code}: {session.error.detail}"


async def test_where_the_tool_is_missing_the_refusal_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    said = await refusal("srt://127.0.0.1:9000")
    assert said.startswith("source_refused")
    assert "srt-tools" in said


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("srt://camera.example.com:9000", "source_not_allowed"),
        ("srt://camera.example.com", "source_not_allowed"),
        ("srt://user:word@camera.example.com:9000", "source_not_allowed"),
        ("srt://127.0.0.1:9000", "source_not_allowed"),
        ("srt://[::1]:9000", "source_not_allowed"),
        ("srt://169.254.169.254:80", "source_not_allowed"),
        ("srt://other.example.org:9000", "source_not_allowed"),
        ("srt://rebinding.example.com:9000", "source_not_allowed"),
        ("srt://:9000", "source_not_allowed"),
        ("srt://camera.example.com:9000?mode=listener", "source_refused"),
        ("srt://camera.example.com:9000?passphrase=0123456789", "source_refused"),
        ("srt://camera.example.com:9000?bind=10.0.0.1", "source_refused"),
        ("srt://camera.example.com:9000?streamid=a%26mode=listener", "source_refused"),
        ("srt://camera.example.com:9000?streamid=", "source_refused"),
        (f"srt://camera.example.com:9000?latency={MOST_LATENCY_MS + 1}", "source_refused"),
        ("srt://camera.example.com:9000?latency=-1", "source_refused"),
    ],
)
async def test_a_hostile_url_starts_no_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, code: str
) -> None:
    started = []

    async def run(*command: str, **_: object) -> None:
        started.append(command)
        raise OSError("no process in this test")

    async def resolve(host: str, port: int) -> list[str]:
        return {NAME: [PUBLIC], "rebinding.example.com": [PUBLIC, "10.0.0.1"]}.get(host, [host])

    monkeypatch.setattr(srt_client, "_tool", lambda: TOOL)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", run)
    logins = tmp_path / "logins.toml"
    logins.write_text(LOGINS.format("passphrase123"))
    config = replace(CONFIG, source_private_targets=False, source_hosts=("example.com", "127.0.0.1", "::1"))
    # Without a passphrase nothing plain is asked; with one the URL itself is looked at.
    name = None if url == "srt://camera.example.com:9000" else "away"
    backend = PinnedBackend(private=False, resolve=resolve)
    said = await refusal(url, config=config, backend=backend, credentials=name, logins=logins)
    assert said.startswith(code)
    assert started == []


async def test_the_tool_is_called_with_the_address_that_was_checked_and_an_empty_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[tuple[tuple[str, ...], object]] = []

    async def run(*command: str, env: object, **_: object) -> None:
        started.append((command, env))
        raise OSError("no process in this test")

    async def resolve(host: str, port: int) -> list[str]:
        return [PUBLIC]

    monkeypatch.setattr(srt_client, "_tool", lambda: TOOL)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", run)
    logins = tmp_path / "logins.toml"
    logins.write_text(LOGINS.format("passphrase123"))
    config = replace(CONFIG, source_private_targets=False)
    backend = PinnedBackend(private=False, resolve=resolve)
    url = f"srt://{NAME}:9000?latency=300"
    await refusal(url, config=config, backend=backend, credentials="away", logins=logins)
    [command, environment], *_ = started
    assert command[-2] == f"srt://{PUBLIC}:9000?mode=caller&transtype=live&latency=300&passphrase=passphrase123"
    assert environment == {}
