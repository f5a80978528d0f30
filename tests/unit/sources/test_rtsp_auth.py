"""Challenges of servers are answered as the RFCs say, by the strongest means that is offered."""

from __future__ import annotations

import secrets

import pytest

from service.errors import SourceRefused
from service.sources.rtsp_auth import Authorization
from service.sources.stream_logins import StreamLogin

# The example of RFC 7616, 3.9.1.
LOGIN = StreamLogin.model_validate({"host": "h", "user": "Mufasa", "password": "Circle of Life"})
NONCE = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
CHALLENGE = (
    'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={}, nonce="' + NONCE + '", opaque="o"'
)


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_example_of_the_rfc_is_answered_as_it_says(
    monkeypatch: pytest.MonkeyPatch, algorithm: str, response: str
) -> None:
    own = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
    monkeypatch.setattr(secrets, "token_hex", lambda size: own)
    said = Authorization(LOGIN, (CHALLENGE.format(algorithm),)).header("GET", "/dir/index.html")
    assert f'response="{response}"' in said
    assert 'username="Mufasa"' in said
    assert f"algorithm={algorithm}, qop=auth, nc=00000001" in said
    assert 'opaque="o"' in said


def test_an_old_server_gets_an_answer_without_a_count() -> None:
    # As RFC 2069 has it: MD5(MD5(user:realm:password):nonce:MD5(method:uri)).
    said = Authorization(LOGIN, ('Digest realm="r", nonce="n"',)).header("PLAY", "rtsp://h/a")
    assert "qop" not in said
    assert 'response="8326c128458f811b0a0840ccb638ab94"' in said


def test_each_request_counts() -> None:
    answering = Authorization(LOGIN, (CHALLENGE.format("MD5"),))
    assert [answering.header("PLAY", "u").split("nc=")[1][:8] for _ in range(2)] == ["00000001", "00000002"]


@pytest.mark.parametrize(
    "offered",
    [
        ('Basic realm="r"', CHALLENGE.format("MD5"), CHALLENGE.format("SHA-256")),
        (", ".join(('Basic realm="a, b=\\"c\\""', CHALLENGE.format("MD5"), CHALLENGE.format("SHA-256"))),),
        (CHALLENGE.format("SHA-512-256"), CHALLENGE.format("SHA-256")),
    ],
)
def test_the_strongest_of_what_is_offered_is_taken(offered: tuple[str, ...]) -> None:
    assert "algorithm=SHA-256" in Authorization(LOGIN, offered).header("PLAY", "u")


def test_a_server_that_asks_by_basic_alone_is_told_so() -> None:
    assert Authorization(LOGIN, ('basic realm="r"',)).header("PLAY", "u") == "Basic TXVmYXNhOkNpcmNsZSBvZiBMaWZl"


@pytest.mark.parametrize("offered", [(), ("",), ("Bearer",), ("Digest realm=x",), (CHALLENGE.format("MD5-sess"),)])
def test_what_cannot_be_answered_is_refused_without_the_password(offered: tuple[str, ...]) -> None:
    with pytest.raises(SourceRefused) as raised:
        Authorization(LOGIN, offered)
    assert "Circle" not in raised.value.detail


def test_values_of_the_server_cannot_leave_their_quotes() -> None:
    said = Authorization(LOGIN, ('Digest realm="a\\", uri=\\"x", nonce="n"',)).header("PLAY", "u")
    assert 'realm="a\\", uri=\\"x"' in said
