"""What is fetched of a real server of RTSP is decoded to the windows of its recording."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path

import httpcore
import numpy as np
import pytest

from service.errors import SourceRefused
from service.sources.addresses import PinnedBackend
from service.sources.rtsp_client import RtspClient
from service.sources.stream_logins import StreamLogins
from testing.videos import write_video
from tests.fixtures.live_sources import CONFIG
from tests.fixtures.rtsp_server import rtsp_server
from tests.unit.video.common import decode, limits
from tests.unit.video.test_live import MODEL, asked, live

LOGINS = '[door]\nhost = "127.0.0.1"\nuser = "viewer"\npassword = "{}"\n'


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("rtsp") / "a.mp4", 60, fps=25, gop=25)


async def fetched(
    url: str, credentials: str | None = None, logins: Path | None = None, tls: ssl.SSLContext | None = None
) -> bytes:
    client = RtspClient(CONFIG, PinnedBackend(private=True), StreamLogins(logins), 20.0, tls)
    async with asyncio.timeout(60.0):
        return b"".join([piece async for piece in client.play(url, credentials)])


@pytest.mark.parametrize(
    ("codec", "encoder", "b_frames"), [("h264", "libx264", 0), ("h264", "libx264", 2), ("hevc", "libx265", 2)]
)
async def test_what_is_fetched_has_the_windows_of_its_recording(
    tmp_path: Path, codec: str, encoder: str, b_frames: int
) -> None:
    path = write_video(tmp_path / "a.mp4", 100, fps=25, gop=25, b_frames=b_frames, codec=encoder)
    with rtsp_server({"/a": (path, codec)}) as address:
        data = await fetched(f"rtsp://{address}/a")
    want = asked(0.5, records=True)
    answer, recorded = decode(path, want.request, MODEL, limits(max_clips_per_job=2000))
    windows, clips, end = live(data, want, tmp_path)
    assert (end.frames_decoded, end.errors, end.jumps) == (100, 0, 0)
    assert len(windows) == len(answer.windows) - 1
    for window, clip in zip(windows, clips, strict=True):
        of_file = answer.windows[window.number]
        assert (window.start_s, window.end_s, window.times_s) == (of_file.start_s, of_file.end_s, of_file.times_s)
        assert np.array_equal(clip, recorded[window.number])


@pytest.mark.parametrize("basic", [False, True])
async def test_a_server_that_asks_for_a_user_gets_the_one_that_was_named(
    tmp_path: Path, video: Path, *, basic: bool
) -> None:
    right, wrong = tmp_path / "right.toml", tmp_path / "wrong.toml"
    right.write_text(LOGINS.format("s3cret"))
    wrong.write_text(LOGINS.format("other"))
    with rtsp_server({"/a": (video, "h264")}, user="viewer", password="s3cret", basic=basic) as address:  # noqa: S106
        assert len(await fetched(f"rtsp://{address}/a", "door", right)) > 1000
        for name, logins in (("door", wrong), (None, right)):
            with pytest.raises(SourceRefused) as raised:
                await fetched(f"rtsp://{address}/a", name, logins)
            assert raised.value.actual == 401


async def test_a_server_with_tls_is_verified_before_anything_is_asked(tmp_path: Path, video: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate")
    key, certificate, both, logins = (tmp_path / name for name in ("key.pem", "one.pem", "both.pem", "logins.toml"))
    make = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=camera -addext subjectAltName=IP:127.0.0.1".split()
    await asyncio.to_thread(
        subprocess.run, [openssl, *make, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True
    )
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    logins.write_text(LOGINS.format("s3cret"))
    options = {"user": "viewer", "password": "s3cret", "certificate": str(both)}
    with rtsp_server({"/a": (video, "h264")}, **options) as address:
        trusted = ssl.create_default_context(cafile=certificate)
        assert len(await fetched(f"rtsps://{address}/a", "door", logins, trusted)) > 1000
        with pytest.raises(httpcore.ConnectError, match="certificate verify failed"):
            await fetched(f"rtsps://{address}/a", "door", logins)


async def test_a_path_that_is_not_there_is_refused(video: Path) -> None:
    with rtsp_server({"/a": (video, "h264")}) as address, pytest.raises(SourceRefused) as raised:
        await fetched(f"rtsp://{address}/b")
    assert raised.value.actual == 404
