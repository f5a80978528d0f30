"""Objects in buckets, from a server of S3 and one of Google Cloud Storage."""

import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from obstore.exceptions import BaseError

from service.errors import (
    EmptyUpload,
    InvalidOption,
    SourceChanged,
    SourceLimit,
    SourceNotAllowed,
    SourceRefused,
    SourceUnavailable,
    VidtrError,
)
from service.sources import remote_file
from service.sources.buckets import Buckets
from service.sources.config import BucketConfig, SourceConfig
from service.sources.destinations import Destinations
from service.sources.remote_file import BLOCK_BYTES, RemoteFile
from testing.object_stores import GcsServer, S3Server
from testing.range_server import RangeServer, Served

DATA = random.Random(1).randbytes(40 * BLOCK_BYTES + 1234)
LIMITS = SourceConfig(
    source_hosts=(),
    source_private_targets=False,
    source_max_bytes=20 * BLOCK_BYTES,
    source_max_requests=10,
    source_max_redirects=0,
    source_timeout_s=20.0,
)
Stores = dict[str, S3Server | GcsServer]


class Memory:
    """A sink that a test can look into."""

    def __init__(self) -> None:
        self.data = bytearray()

    async def reserve(self, length: int) -> None:
        self.data = bytearray(length)

    async def write_at(self, offset: int, data: bytes) -> None:
        self.data[offset : offset + len(data)] = data

    async def write(self, chunk: bytes) -> None:
        raise AssertionError("a store gives ranges")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_file, "PAUSE_S", 0.0)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    folder = tmp_path_factory.mktemp("stores")
    stores: Stores = {"s3": S3Server(folder), "gs": GcsServer(folder)}
    try:
        yield stores
    finally:
        for store in stores.values():
            store.stop()


def config(stores: Stores, s3_endpoint: str | None = None) -> BucketConfig:
    return BucketConfig(
        source_buckets=("s3://films", "gs://films", "s3://absent", "gs://absent"),
        source_s3_endpoint=s3_endpoint or stores["s3"].endpoint,
        source_s3_region="us-east-1",
        source_s3_credentials_file=stores["s3"].credentials,
        source_gs_endpoint=stores["gs"].endpoint,
        source_gs_credentials_file=stores["gs"].credentials,
        source_timeout_s=20.0,
    )


def opened(url: str, config: BucketConfig) -> tuple[RemoteFile, Memory]:
    sink = Memory()
    return RemoteFile(Buckets(config).client(url), LIMITS, sink), sink


@pytest.mark.parametrize("scheme", ["s3", "gs"])
@pytest.mark.parametrize("key", ["film.mp4", "2024/a film, größe 100%41?#.mp4"])
async def test_only_what_is_read_of_an_object_is_fetched(stores: Stores, scheme: str, key: str) -> None:
    file, sink = opened(stores[scheme].put(key, DATA), config(stores))
    await file.open()
    await file.fetch(len(DATA) - 5000, 5000)
    assert sink.data[-5000:] == DATA[-5000:]
    assert (file.read.bytes_total, file.read.requests) == (len(DATA), 2)
    assert file.read.bytes_read < 6 * BLOCK_BYTES


@pytest.mark.parametrize("scheme", ["s3", "gs"])
async def test_an_object_that_changes_while_it_is_read_is_noticed(stores: Stores, scheme: str) -> None:
    file, _ = opened(stores[scheme].put("changing", DATA), config(stores))
    await file.open()
    stores[scheme].put("changing", DATA[::-1])
    with pytest.raises(SourceChanged):
        await file.fetch(30 * BLOCK_BYTES, 10)


@pytest.mark.parametrize("url", ["s3://films/absent", "gs://films/absent", "s3://absent/key", "gs://absent/key"])
async def test_an_object_that_is_not_there_is_refused_at_once(stores: Stores, url: str) -> None:
    file, _ = opened(url, config(stores))
    with pytest.raises(SourceRefused) as refused:
        await file.open()
    assert (refused.value.actual, file.read.requests) == (404, 1)


async def test_an_object_that_the_service_may_not_read_is_refused(stores: Stores) -> None:
    s3 = stores["s3"]
    assert isinstance(s3, S3Server)
    file, _ = opened(s3.put("secret", DATA), config(stores))
    s3.forbid("secret")
    with pytest.raises(SourceRefused) as refused:
        await file.open()
    assert refused.value.actual == 403


@pytest.mark.parametrize("scheme", ["s3", "gs"])
async def test_an_empty_object_is_an_empty_upload(stores: Stores, scheme: str) -> None:
    file, _ = opened(stores[scheme].put("empty", b""), config(stores))
    with pytest.raises(EmptyUpload):
        await file.open()


async def test_the_limits_of_a_source_hold_for_an_object(stores: Stores) -> None:
    file, _ = opened(stores["s3"].put("film", DATA), config(stores))
    await file.open()
    with pytest.raises(SourceLimit, match="bytes"):
        await file.fetch(0, 30 * BLOCK_BYTES)


@pytest.mark.parametrize(
    ("served", "error", "requests"),
    [
        (Served(DATA, failing=lambda number: 503), SourceUnavailable, remote_file.TRIES),
        (Served(DATA, failing=lambda number: 400), SourceRefused, 1),
        (Served(DATA, failing=lambda number: 301), SourceRefused, 1),
    ],
    ids=["fails", "refuses", "is of another region"],
)
async def test_a_store_that_does_not_give_an_object_has_a_code(
    stores: Stores, served: Served, error: type[VidtrError], requests: int
) -> None:
    with RangeServer() as server:
        endpoint = server.serve("/films/film", served).removesuffix("/films/film")
        file, _ = opened("s3://films/film", config(stores, endpoint))
        with pytest.raises(error) as raised:
            await file.open()
    assert len(served.requests) == requests
    assert endpoint not in raised.value.detail


async def test_a_store_that_breaks_off_again_and_again_gives_the_whole(stores: Stores) -> None:
    dated = {"Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT"}
    served = Served(DATA[: 15 * BLOCK_BYTES], cut_after=BLOCK_BYTES + 100, headers=dated)
    with RangeServer() as server:
        endpoint = server.serve("/films/film", served).removesuffix("/films/film")
        file, sink = opened("s3://films/film", config(stores, endpoint))
        await file.open()
        await file.fetch(0, 6 * BLOCK_BYTES)
    assert sink.data[: 6 * BLOCK_BYTES] == DATA[: 6 * BLOCK_BYTES]


async def test_a_store_that_is_not_there_is_given_up(stores: Stores) -> None:
    file, _ = opened("s3://films/film", config(stores, "http://127.0.0.1:1"))
    with pytest.raises(SourceUnavailable):
        await file.open()


@pytest.mark.parametrize(
    "url",
    [
        "s3://other/key",
        "s3://films",
        "s3://films/",
        "s3://films//key",
        "s3://films/../other/key",
        "s3://films/a/./key",
        "s3://films/key/",
        "s3://films/a\nb",
        "s3://films:80/key",
        "s3://films@evil.example/key",
        "s3://evil.example/films/key",
        "s3://films.evil.example/key",
        "s3://FILMS/key",
        "S3://films/key",
        "s3:///films/key",
        "s3://films?/key",
        "s3://films%2Fother/key",
        "file://films/key",
    ],
)
def test_no_name_of_a_bucket_or_key_leads_elsewhere(stores: Stores, url: str) -> None:
    with pytest.raises(SourceNotAllowed):
        Buckets(config(stores)).client(url)


def test_credentials_that_cannot_be_used_are_told_at_the_start(stores: Stores, tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("{}")
    for file in (tmp_path / "broken", tmp_path / "absent"):
        for broken in (
            replace(config(stores), source_s3_credentials_file=file),
            replace(config(stores), source_gs_credentials_file=file),
        ):
            with pytest.raises((OSError, ValueError, BaseError)):
                Buckets(broken)


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


@pytest.mark.parametrize("length", [0, 10, 11_000_000])
@pytest.mark.parametrize("scheme", ["s3", "gs"])
async def test_an_object_is_written_in_pieces_whatever_its_size(stores: Stores, scheme: str, length: int) -> None:
    destinations = Destinations((f"{scheme}://films",), config(stores))
    url, data = f"{scheme}://films/out/{length} é.jsonl", random.Random(2).randbytes(length)
    await destinations.check_free(url)
    await destinations.write(url, pieces(data))
    with pytest.raises(InvalidOption, match=f"there is an object of {length} bytes already"):
        await destinations.check_free(url)
    if length:
        source, sink = opened(url, config(stores))
        await source.open()
        last = (length - 100 if length > 100 else 0), length
        await source.fetch(last[0], last[1] - last[0])
        assert source.size == length
        assert sink.data[last[0] :] == data[last[0] :]


@pytest.mark.parametrize("scheme", ["s3", "gs"])
async def test_a_bucket_that_is_not_there_takes_nothing(stores: Stores, scheme: str) -> None:
    destinations = Destinations((f"{scheme}://absent",), config(stores))
    with pytest.raises(OSError, match=r"^The bucket d[a-z ]+\.$"):
        await destinations.write(f"{scheme}://absent/out", pieces(b"x"))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("s3://films/out", "nothing is written to s3://films"),
        ("https://films/out", "nothing is written to https://films"),
        ("s3://out/", "no part of it"),
        ("s3://out/a/../b", "no part of it"),
    ],
)
def test_nothing_is_written_elsewhere_than_the_operator_says(stores: Stores, url: str, why: str) -> None:
    with pytest.raises(InvalidOption, match=why):
        Destinations(("s3://out",), config(stores)).check(url)
