"""The address of Redis, as people write it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.redis_url import RedisUrl, hash_tag, prefix_of_keys


def test_a_server_has_its_port_and_database() -> None:
    url = RedisUrl.parse("redis://cache.example:6380/2")
    assert (url.kind, url.tls, url.addresses) == ("server", False, (("cache.example", 6380),))
    assert url.server_url == "redis://cache.example:6380?db=2"


def test_a_port_that_is_not_named_is_the_usual_one() -> None:
    assert RedisUrl.parse("rediss://cache").addresses == (("cache", 6379),)
    assert RedisUrl.parse("redis+sentinel://one/main").addresses == (("one", 26379),)


def test_sentinels_have_a_service_and_a_database() -> None:
    url = RedisUrl.parse("rediss+sentinel://u:p%40s@one:1,two,[::1]:3/main/4?ssl_ca_certs=/ca.pem&sentinel_password=x")
    assert (url.kind, url.tls, url.service) == ("sentinel", True, "main")
    assert url.addresses == (("one", 1), ("two", 26379), ("::1", 3))
    assert url.sentinel_login == (None, "x")
    assert url.server_url == "rediss://u:p%40s@one:1?ssl_ca_certs=%2Fca.pem&db=4"


def test_a_cluster_has_several_servers() -> None:
    url = RedisUrl.parse("redis+cluster://one:7000,two:7001")
    assert (url.kind, url.addresses) == ("cluster", (("one", 7000), ("two", 7001)))


def test_a_unix_socket_has_a_path() -> None:
    assert RedisUrl.parse("unix:///run/redis.sock?db=1").server_url == "unix:///run/redis.sock?db=1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sentinel://host/main", "begins with sentinel"),
        ("localhost:6379", "must begin with one of redis://"),
        ("", "begins with none"),
        ("redis://one,two/0", "names one server, not 2"),
        ("redis://host:port", r"The port of host must be a number from 1 to 65535"),
        ("redis://host:0", r"The port of host must be a number from 1 to 65535"),
        ("redis://", "names no host"),
        ("redis://:6379", "no host name before its port"),
        ("redis://host/main", "must be a number, not 'main'"),
        ("redis://host/0/1", "must end with the database"),
        ("redis://host?sentinel=1", "unknown option 'sentinel'"),
        ("redis://host?sentinel_password=1", "unknown option 'sentinel_password'"),
        ("redis://host?socket_timeout=long", "socket_timeout of the Redis address cannot be 'long'"),
        ("rediss://host?ssl_cert_reqs=maybe", "ssl_cert_reqs of the Redis address cannot be 'maybe'"),
        ("redis+sentinel://one,two", "names no service"),
        ("redis+cluster://one/1", "must be 0 in a cluster, not 1"),
        ("unix://", "path of a socket"),
        ("unix://host/run/redis.sock", "path of a socket"),
    ],
)
def test_a_wrong_address_is_told_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RedisUrl.parse(text)


@given(st.text(max_size=40))
def test_no_text_does_more_than_raise_a_value_error(text: str) -> None:
    for scheme in ("", "redis://", "redis+sentinel://", "unix://"):
        try:
            RedisUrl.parse(scheme + text)
        except ValueError:
            continue


@pytest.mark.parametrize(
    "text",
    [
        "redis://u:hidden@",
        "redis://u:hidden@one,two",
        "redis+sentinel://u:hidden@host",
        "redis://u:a/hidden@host",
        "redis://u:a?hidden@host",
        "redis://hidden#1@host",
        "redis://u:hidden\uff0f@host",
        "redis://u:hidden@[host",
    ],
)
def test_no_message_contains_a_password(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as error:
        RedisUrl.parse(text)
    assert "hidden" not in str(error.value)


def test_neither_does_what_is_shown() -> None:
    url = RedisUrl.parse("redis+sentinel://u:hidden@host/main?sentinel_password=hidden")
    assert "hidden" not in repr(url) + url.shown


def test_the_hash_tag_is_what_a_cluster_takes() -> None:
    assert [hash_tag(text) for text in ("a", "{a}", "x{a}y{b}", "{}a", "{a")] == ["", "a", "a", "", ""]


def test_in_a_cluster_all_keys_have_a_hash_tag() -> None:
    assert prefix_of_keys("redis+cluster://one", "vidtr") == "{vidtr}"
    assert prefix_of_keys("redis+cluster://one", "x:{vidtr}") == "x:{vidtr}"
    assert prefix_of_keys("redis://one", "vidtr") == "vidtr"
