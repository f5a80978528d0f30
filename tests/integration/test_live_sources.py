"""Streams that are fetched: what comes of a source, what is tried again, and that a hostile one reaches nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from service.live import pull
from service.sources.addresses import PinnedBackend
from service.sources.config import SourceConfig
from testing.range_server import RangeServer, Served
from tests.fixtures.live_sources import CONFIG, NAME, PUBLIC, Session, World, pull_into

PARTS = [b"\x47" + random.Random(n).randbytes(5000) for n in range(6)]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull, "_FIRST_PAUSE_S", 0.01)


@pytest.fixture(scope="module")
def one_server() -> Iterator[RangeServer]:
    with RangeServer() as server:
        yield server


@pytest.fixture
def server(one_server: RangeServer) -> RangeServer:
    one_server.files.clear()
    return one_server


def playlist(first: int, names: list[str], *, ended: bool = False, target: float = 0.5) -> bytes:
    lines = ["#EXTM3U", f"#EXT-X-TARGETDURATION:{target}", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    lines += [line for name in names for line in ("#EXTINF:1,", name)]
    return "\n".join([*lines, "#EXT-X-ENDLIST"] if ended else lines).encode()


async def fetch(url: str, reconnect_s: float = 5.0, config: SourceConfig = CONFIG) -> Session:
    session = Session()
    await asyncio.wait_for(pull_into(url, session, reconnect_s=reconnect_s, config=config), 30.0)
    return session


async def test_a_stream_of_one_answer_comes_whole(server: RangeServer) -> None:
    server.serve("/real.ts", Served(PARTS[0]))
    session = await fetch(server.serve("/a.ts", Served(b"", location="/real.ts")))
    assert (session.data, session.finished, session.error) == (PARTS[0], True, None)


async def test_the_segments_of_an_ended_playlist_come_in_order(server: RangeServer) -> None:
    for n, part in enumerate(PARTS):
        server.serve(f"/{n}.ts", Served(part))
    names = [f"{n}.ts" for n in range(len(PARTS))]
    server.serve("/low/a.m3u8", Served(playlist(4, [f"../{name}" for name in names], ended=True)))
    session = await fetch(server.serve("/a.m3u8", Served(b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow/a.m3u8\n")))
    assert (session.data, session.finished, session.segment) == (b"".join(PARTS), True, 10)


async def test_a_live_playlist_is_read_from_near_its_end_and_each_segment_once(server: RangeServer) -> None:
    for n, part in enumerate(PARTS):
        server.serve(f"/{n}.ts", Served(part))
    url = server.serve("/a.m3u8", Served(playlist(0, ["0.ts", "1.ts", "2.ts", "3.ts"])))
    session = Session()
    fetching = asyncio.create_task(pull_into(url, session))
    await session.came.wait()
    server.serve("/a.m3u8", Served(playlist(2, ["2.ts", "3.ts", "4.ts", "5.ts"], ended=True)))
    await asyncio.wait_for(fetching, 30.0)
    assert session.data == b"".join(PARTS[1:])
    assert session.notes == []


async def test_segments_that_are_gone_are_told_of(server: RangeServer) -> None:
    server.serve("/8.ts", Served(PARTS[0]))
    session = Session()
    session.segment = 5
    url = server.serve("/a.m3u8", Served(playlist(7, ["7.ts", "8.ts"], ended=True)))
    await pull_into(url, session)
    assert [(state, more["segments"]) for state, more in session.notes] == [("skipped", 2), ("skipped", 1)]
    assert (session.data, session.finished, session.segment) == (PARTS[0], True, 9)


async def test_a_header_comes_before_the_segments_of_a_fragmented_mp4(server: RangeServer) -> None:
    server.serve("/init.mp4", Served(b"header"))
    server.serve("/1.m4s", Served(b"one"))
    text = playlist(1, ["1.m4s"], ended=True).replace(b"#EXTINF", b'#EXT-X-MAP:URI="init.mp4"\n#EXTINF', 1)
    assert (await fetch(server.serve("/a.m3u8", Served(text)))).data == b"headerone"


async def test_a_server_that_fails_is_asked_again(server: RangeServer) -> None:
    served = Served(PARTS[0], failing=lambda number: 503 if number < 3 else None)
    session = await fetch(server.serve("/a.ts", served))
    assert [state for state, _ in session.notes] == ["reconnecting"] * 2
    assert (session.data, session.finished) == (PARTS[0], True)


async def test_a_stream_that_breaks_off_goes_on_with_what_comes_then(server: RangeServer) -> None:
    served = Served(PARTS[0], cut_after=2000)
    url = server.serve("/a.ts", served)
    session = Session()
    fetching = asyncio.create_task(pull_into(url, session))
    await session.came.wait()
    served.cut_after = None
    await asyncio.wait_for(fetching, 30.0)
    assert session.data.endswith(PARTS[0])
    assert len(session.data) > len(PARTS[0])


async def test_a_source_that_never_answers_is_given_up(server: RangeServer) -> None:
    session = await fetch(server.serve("/a.ts", Served(b"x", failing=lambda number: 503)), reconnect_s=0.1)
    assert session.error is not None
    assert session.error.code == "source_unavailable"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="k"\n#EXTINF:1,\n0.ts\n#EXT-X-ENDLIST', "source_refused"),
        (b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n", "source_refused"),
        (b"#EXTM3U\n" + b"#" * (1 << 20), "source_refused"),
        (playlist(0, ["large.ts"], ended=True), "source_limit"),
    ],
)
async def test_a_playlist_beyond_the_limits_is_refused_with_its_code(
    server: RangeServer, body: bytes, code: str
) -> None:
    server.serve("/large.ts", Served(bytes(CONFIG.source_max_bytes + 1)))
    session = await fetch(server.serve("/a.m3u8", Served(body)))
    assert session.error is not None
    assert (session.error.code, session.data) == (code, b"")


HOSTILE = [
    "file:///etc/passwd",
    "concat:/etc/passwd|/etc/hosts",
    "data:video/mp2t;base64,R0dH",
    "ftp://camera.example.com/a.ts",
    "rtsp://camera.example.com/a",
    "srt://camera.example.com:9000",
    "gopher://camera.example.com/",
    "http://camera.example.com/a.ts",
    "https://127.0.0.1/a.ts",
    "https://[::1]/a.ts",
    "https://[::ffff:10.0.0.1]/a.ts",
    "https://169.254.169.254/latest/meta-data",
    "https://10.1.2.3/a.ts",
    "https://2130706433/a.ts",
    "https://0x7f.1/a.ts",
    "https://rebinding.example.com/a.ts",
    "https://user:secret@camera.example.com/a.ts",
    "//127.0.0.1/a.ts",
    "/redirect",
    "subfile,,start,0,end,9,,:/etc/passwd",
    "crypto:https://127.0.0.1/a.ts",
]


@pytest.mark.parametrize("where", ["segment", "map", "variant", "source", "redirect"])
@pytest.mark.parametrize("uri", HOSTILE)
async def test_a_hostile_source_reaches_nothing(server: RangeServer, uri: str, where: str) -> None:
    world = World(int(server.url.rsplit(":", 1)[1]))

    async def resolve(host: str, port: int) -> list[str]:
        known = {NAME: [PUBLIC], "rebinding.example.com": [PUBLIC, "10.0.0.1"]}
        return known.get(host, ["127.0.0.1" if "7f" in host or host.isdecimal() else host])

    bodies = {
        "segment": playlist(0, [uri], ended=True),
        "map": playlist(0, ["0.ts"], ended=True).replace(b"#EXTINF", f'#EXT-X-MAP:URI="{uri}"\n#EXTINF'.encode(), 1),
        "variant": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{uri}\n".encode(),
    }
    server.serve("/0.ts", Served(b"G"))
    server.serve("/redirect", Served(b"", location="https://127.0.0.1/a.ts"))
    server.serve("/away", Served(b"", location=uri))
    server.serve("/a.m3u8", Served(bodies.get(where, b"")))
    url = {"source": uri, "redirect": f"https://{NAME}/away"}.get(where, f"https://{NAME}/a.m3u8")
    session = Session()
    backend = PinnedBackend(private=False, resolve=resolve, inner=world)
    config = replace(CONFIG, source_private_targets=False)
    await asyncio.wait_for(pull_into(url, session, reconnect_s=0.05, config=config, backend=backend), 30.0)
    # What is a path of the public server is not found there.
    assert session.error is not None or uri.startswith("subfile")
    assert session.data == b""
    assert {host for host, _ in world.reached} <= {PUBLIC}
