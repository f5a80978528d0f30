"""What a server of RTSP says is told apart, at whatever bytes it is cut, and what it must not say is refused."""

from __future__ import annotations

import random

import pytest

from service.errors import SourceLimit, SourceRefused, VidtrError
from service.sources.rtsp_messages import BODY_BYTES, HEAD_BYTES, MOST_HEADERS, Asked, Frame, Reply, RtspReader

SAID = (
    b"RTSP/1.0 200 OK\r\nCSeq: 3\r\nSession : 12;timeout=60 \r\nWWW-Authenticate: A\r\nwww-authenticate: B\r\n"
    b"Content-Length: 4\r\n\r\nbody"
    b"$\x01\x00\x03abc"
    b"\r\nGET_PARAMETER rtsp://h/a RTSP/1.0\r\nCSeq: 9\r\n\r\n"
    b"$\x00\x00\x00RTSP/1.0 404 Not Found\r\n\r\n"
)
HEARD = [
    Reply(
        200,
        {"cseq": ("3",), "session": ("12;timeout=60",), "www-authenticate": ("A", "B"), "content-length": ("4",)},
        b"body",
    ),
    Frame(1, b"abc"),
    Asked("GET_PARAMETER", "9"),
    Frame(0, b""),
    Reply(404, {}, b""),
]


def heard(data: bytes, largest: int, seed: int = 1) -> list[Reply | Asked | Frame]:
    reader, found, at, sizes = RtspReader(), list[Reply | Asked | Frame](), 0, random.Random(seed)
    while at < len(data):
        size = sizes.randint(1, largest)
        reader.feed(data[at : at + size])
        at += size
        while (message := reader.next()) is not None:
            found.append(message)
    return found


@pytest.mark.parametrize("largest", [1, 7, 1000])
def test_messages_and_packets_are_told_apart_wherever_they_are_cut(largest: int) -> None:
    assert heard(SAID, largest) == HEARD


def test_a_reply_says_which_request_it_answers() -> None:
    numbers = [one.number for one in heard(SAID, 99) if isinstance(one, Reply)]
    assert numbers == [3, None]


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x02\x00",
        b"\x00" * 100,
        b"220 mail.example.com ESMTP\r\n",
        b"RTSP/1.0 OK\r\n\r\n",
        b"RTSP/1.0 2000 OK\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nno header\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n continued\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nA\x00B: 1\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nAB: 1\rX: 2\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nAB: 1\nX: 2\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: 1e9\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: \xb2\r\n\r\n",
    ],
)
def test_what_is_no_rtsp_is_refused(data: bytes) -> None:
    with pytest.raises(SourceRefused):
        heard(data, 1000)


@pytest.mark.parametrize(
    ("data", "limit"),
    [
        (b"RTSP/1.0 200 OK\r\nA: " + b"x" * (HEAD_BYTES + 1), HEAD_BYTES),
        (b"RTSP/1.0 200 OK\r\n" + b"A: 1\r\n" * (MOST_HEADERS + 1) + b"\r\n", MOST_HEADERS),
        (b"RTSP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % (BODY_BYTES + 1), BODY_BYTES),
        (b"RTSP/1.0 200 OK\r\nContent-Length: 999999999\r\n\r\n", BODY_BYTES),
    ],
)
def test_what_is_too_large_is_refused_with_the_limit_and_the_size(data: bytes, limit: int) -> None:
    with pytest.raises(SourceLimit) as raised:
        heard(data, 5000)
    assert raised.value.limit == limit
    assert isinstance(raised.value.actual, int)
    assert raised.value.actual > limit


@pytest.mark.parametrize("seed", range(50))
def test_noise_is_a_message_or_a_coded_error_and_is_never_kept_beyond_the_limits(seed: int) -> None:
    noise = random.Random(seed)
    data = bytearray(SAID * 20)
    for _ in range(noise.choice((1, 3, 30))):
        data[noise.randrange(len(data))] = noise.randrange(256)
    try:
        found = heard(bytes(data), 300, seed)
    except VidtrError as error:
        assert error.code in ("source_refused", "source_limit")  # noqa: PT017 - either is right
    else:
        assert all(len(one.data) < 1 << 16 for one in found if isinstance(one, Frame))
