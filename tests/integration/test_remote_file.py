"""A file by its URL: only what is read is fetched, whatever its server does to that."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from service.errors import (
    EmptyUpload,
    SourceChanged,
    SourceLimit,
    SourceNotAllowed,
    SourceRefused,
    SourceUnavailable,
)
from service.sources import remote_file
from service.sources.addresses import PinnedBackend
from service.sources.config import SourceConfig
from service.sources.ranges import RangeClient
from service.sources.remote_file import BLOCK_BYTES, RemoteFile
from testing.range_server import RangeServer, Served

DATA = random.Random(1).randbytes(40 * BLOCK_BYTES + 1234)
CONFIG = SourceConfig(
    source_hosts=("*",),
    source_private_targets=True,
    source_max_bytes=1 << 30,
    source_max_requests=1000,
    source_max_redirects=2,
    source_timeout_s=20.0,
)


class Memory:
    """A sink that a test can look into."""

    def __init__(self) -> None:
        self.data = bytearray()

    async def reserve(self, length: int) -> None:
        self.data = bytearray(length)

    async def write_at(self, offset: int, data: bytes) -> None:
        self.data[offset : offset + len(data)] = data

    async def write(self, chunk: bytes) -> None:
        self.data += chunk


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_file, "PAUSE_S", 0.0)


@pytest.fixture(scope="module")
def server() -> Iterator[RangeServer]:
    with RangeServer() as server:
        yield server


class Opened:
    """A remote file, and what came of it."""

    def __init__(self, url: str, config: SourceConfig = CONFIG) -> None:
        self.sink = Memory()
        client = RangeClient(url, config, PinnedBackend(private=config.source_private_targets))
        self.file = RemoteFile(client, config, self.sink)

    async def __aenter__(self) -> "Opened":
        await self.file.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.file.close()

    async def read(self, offset: int, length: int) -> bytes:
        await self.file.fetch(offset, length)
        return bytes(self.sink.data[offset : offset + length])


async def test_what_is_read_is_what_the_server_has(server: RangeServer) -> None:
    async with Opened(server.serve("/a", Served(DATA))) as opened:
        assert opened.file.size == len(DATA)
        for offset in (0, len(DATA) - 5000, 9 * BLOCK_BYTES - 3, 20 * BLOCK_BYTES + 7):
            length = min(5000, len(DATA) - offset)
            assert await opened.read(offset, length) == DATA[offset : offset + length]


async def test_no_more_is_fetched_than_is_read_and_a_little_ahead(server: RangeServer) -> None:
    served = Served(DATA)
    async with Opened(server.serve("/a", served)) as opened:
        await opened.read(len(DATA) - 10, 10)
        read = opened.file.read
        assert (read.bytes_total, read.requests) == (len(DATA), 2)
        assert read.bytes_read == served.sent < 6 * BLOCK_BYTES


async def test_what_is_there_is_not_fetched_again(server: RangeServer) -> None:
    async with Opened(server.serve("/a", Served(DATA))) as opened:
        for _ in range(3):
            await opened.read(10, 100)
        assert opened.file.read.requests == 1


async def test_reading_on_takes_fewer_and_fewer_requests(server: RangeServer) -> None:
    async with Opened(server.serve("/a", Served(DATA))) as opened:
        for offset in range(0, len(DATA), BLOCK_BYTES):
            await opened.read(offset, min(BLOCK_BYTES, len(DATA) - offset))
        assert opened.sink.data == DATA
        assert opened.file.read.requests < 10


async def test_a_line_that_breaks_again_and_again_gives_the_whole(server: RangeServer) -> None:
    served = Served(DATA, cut_after=BLOCK_BYTES + 100)
    async with Opened(server.serve("/a", served)) as opened:
        assert await opened.read(0, len(DATA)) == DATA


async def test_a_server_that_fails_in_between_is_asked_again(server: RangeServer) -> None:
    served = Served(DATA, failing=lambda number: 500 if number % 2 else None)
    async with Opened(server.serve("/a", served)) as opened:
        assert await opened.read(0, len(DATA)) == DATA


async def test_a_server_that_always_fails_is_given_up(server: RangeServer) -> None:
    served = Served(DATA, failing=lambda number: 503)
    with pytest.raises(SourceUnavailable, match="503"):
        await Opened(server.serve("/a", served)).__aenter__()
    assert len(served.requests) == remote_file.TRIES


async def test_a_server_that_is_not_there_is_given_up() -> None:
    with pytest.raises(SourceUnavailable):
        await Opened("http://127.0.0.1:1/a").__aenter__()


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_a_refusal_is_told_at_once(server: RangeServer, status: int) -> None:
    served = Served(DATA, failing=lambda number: status)
    with pytest.raises(SourceRefused) as refused:
        await Opened(server.serve("/a", served)).__aenter__()
    assert (refused.value.actual, len(served.requests)) == (status, 1)


@pytest.mark.parametrize("etag", ['"1"', None])
async def test_a_file_that_changes_while_it_is_read_is_noticed(server: RangeServer, etag: str | None) -> None:
    served = Served(DATA, etag=etag, changes_at=2, headers={} if etag else {"Last-Modified": "yesterday"})
    if etag is None:
        served.changes_at, served.failing = None, lambda number: None
    async with Opened(server.serve("/a", served)) as opened:
        if etag is None:
            served.data = DATA + b"more"
        with pytest.raises(SourceChanged):
            await opened.read(30 * BLOCK_BYTES, 10)


async def test_a_server_without_ranges_is_read_through(server: RangeServer) -> None:
    async with Opened(server.serve("/a", Served(DATA, ranges=False))) as opened:
        assert opened.file.size is None
        assert opened.sink.data == DATA
        assert opened.file.read.bytes_read == len(DATA)


async def test_a_whole_file_that_breaks_off_is_no_file(server: RangeServer) -> None:
    with pytest.raises(SourceUnavailable):
        await Opened(server.serve("/a", Served(DATA, ranges=False, cut_after=100_000))).__aenter__()


async def test_an_empty_file_is_an_empty_upload(server: RangeServer) -> None:
    with pytest.raises(EmptyUpload):
        await Opened(server.serve("/a", Served(b""))).__aenter__()


async def test_a_range_that_was_not_asked_for_is_refused(server: RangeServer) -> None:
    with pytest.raises(SourceRefused, match="bytes 5-9"):
        await Opened(server.serve("/a", Served(DATA, headers={"Content-Range": "bytes 5-9/10"}))).__aenter__()


async def test_limits_of_bytes_requests_and_time_hold(server: RangeServer) -> None:
    url = server.serve("/a", Served(DATA))
    few_bytes, few_requests = replace(CONFIG, source_max_bytes=8 * BLOCK_BYTES), replace(CONFIG, source_max_requests=2)
    async with Opened(url, few_bytes) as opened:
        with pytest.raises(SourceLimit, match="bytes"):
            await opened.read(0, 20 * BLOCK_BYTES)
    async with Opened(url, few_requests) as opened:
        await opened.read(20 * BLOCK_BYTES, 1)
        with pytest.raises(SourceLimit, match="requests"):
            await opened.read(35 * BLOCK_BYTES, 1)
    slow = server.serve("/slow", Served(DATA, pause_s=0.4))
    with pytest.raises(SourceLimit, match="longer"):
        await Opened(slow, replace(CONFIG, source_timeout_s=0.1)).__aenter__()


async def test_a_redirect_is_followed_as_far_as_it_may_be(server: RangeServer) -> None:
    server.serve("/a", Served(DATA))
    server.serve("/b", Served(b"", location="/a"))
    async with Opened(server.serve("/c", Served(b"", location="/b"))) as opened:
        assert await opened.read(0, 100) == DATA[:100]
    with pytest.raises(SourceRefused, match="redirects"):
        await Opened(server.serve("/loop", Served(b"", location="/loop"))).__aenter__()


@pytest.mark.parametrize(
    "target",
    ["http://other.example/a", "file:///etc/passwd", "ftp://127.0.0.1/a", "http://user@127.0.0.1/a", "gopher://x"],
)
async def test_a_redirect_to_where_nothing_may_be_fetched_is_not_followed(server: RangeServer, target: str) -> None:
    here = replace(CONFIG, source_hosts=("127.0.0.1",))
    with pytest.raises(SourceNotAllowed):
        await Opened(server.serve("/away", Served(b"", location=target)), here).__aenter__()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1", "[::ffff:127.0.0.1]"]
)
async def test_nothing_private_is_reached_unless_the_operator_says_so(server: RangeServer, host: str) -> None:
    served = Served(DATA)
    port = server.serve("/a", served).rpartition(":")[2]
    with pytest.raises(SourceNotAllowed):
        await Opened(f"https://{host}:{port}", replace(CONFIG, source_private_targets=False)).__aenter__()
    assert served.requests == []


async def test_a_name_that_leads_to_a_private_address_is_not_followed() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["93.184.216.34", "127.0.0.1"]

    config = replace(CONFIG, source_private_targets=False)
    backend = PinnedBackend(private=False, resolve=resolve)
    file = RemoteFile(RangeClient("https://innocent.example/a", config, backend), config, Memory())
    with pytest.raises(SourceNotAllowed, match="not a public address"):
        await file.open()


async def test_a_host_that_is_not_listed_is_not_asked(server: RangeServer) -> None:
    url = server.serve("/a", Served(DATA))
    for hosts in ((), ("example.com",), ("0.0.1",)):
        with pytest.raises(SourceNotAllowed):
            Opened(url, replace(CONFIG, source_hosts=hosts))
    config = replace(CONFIG, source_hosts=("Example.com.",))
    assert config.allows("media.example.com")
    assert not config.allows("notexample.com")


async def test_one_connection_at_a_time_is_open(server: RangeServer) -> None:
    async with Opened(server.serve("/a", Served(DATA))) as opened:
        await asyncio.gather(*(opened.read(block * BLOCK_BYTES, 10) for block in range(10, 40, 5)))
        assert opened.sink.data[35 * BLOCK_BYTES :][:10] == DATA[35 * BLOCK_BYTES :][:10]
