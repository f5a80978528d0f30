from typing import cast

import pytest
import structlog

from service.api.api_keys import ApiKeyConfig, ApiKeyStore, hashed, new_key
from service.api.auth import AuthConfig, Authenticator, network, rate_limit_headers
from service.errors import Unauthorized
from service.queue.partitions import PerPartition
from service.queue.quota import QuotaLimits, Quotas, QuotaState

KEY = new_key()


def access(**changes: object) -> Authenticator:
    values: dict[str, object] = {
        "host": "127.0.0.1",
        "anonymous": "loopback",
        "trusted_proxies": (),
        "quota_requests": "10/minute",
        "quota_video_seconds": None,
    }
    ring = ApiKeyStore(ApiKeyConfig(f'[[keys]]\nname = "app"\nhash = "{hashed(KEY)}"\nvideo_seconds = "60/hour"', None))
    ring.load()
    return Authenticator(AuthConfig(**values | changes), ring, PerPartition([cast(Quotas, None)]))  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.1.2.3"])
def test_on_a_loopback_address_no_key_is_needed(host: str) -> None:
    assert access(host=host).identify(None, "127.0.0.1").owner == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "0.0.0.0"},  # noqa: S104 - not bound
        {"host": "::"},
        {"host": "192.0.2.7"},
        {"host": "myhost"},
        {"trusted_proxies": ("127.0.0.1",)},
        {"anonymous": "deny"},
    ],
)
def test_elsewhere_a_key_is_needed(changes: dict[str, object]) -> None:
    with pytest.raises(Unauthorized):
        access(**changes).identify(None, "127.0.0.1")
    assert access(**changes).identify(KEY, "127.0.0.1").owner == "app"


def test_everybody_may_be_let_in() -> None:
    open_to_all = access(host="192.0.2.7", anonymous="allow")
    assert open_to_all.identify(None, "192.0.2.8").identity == "address:192.0.2.8"
    assert not open_to_all.lists_anonymous_jobs


def test_callers_without_a_key_are_tenants_by_their_networks_and_one_on_one_s_own_machine() -> None:
    open_to_all = access(host="192.0.2.7", anonymous="allow")
    assert open_to_all.identify(None, "192.0.2.8").tenant == "address:192.0.2.8"
    assert open_to_all.identify(None, "2001:db8::1").tenant == open_to_all.identify(None, "2001:db8::2").tenant
    assert open_to_all.identify(None, "2001:db8:0:1::1").tenant != open_to_all.identify(None, "2001:db8::1").tenant
    assert open_to_all.identify(KEY, "192.0.2.8").tenant == "app"
    assert access().identify(None, "127.0.0.1").tenant == access().identify(None, "127.0.0.2").tenant == ""


@pytest.mark.parametrize(
    ("owner", "reads", "erases"),
    [("address:192.0.2.8", True, True), ("address:192.0.2.9", True, False), ("", True, True), ("app", False, False)],
)
def test_without_a_key_a_job_of_others_without_one_can_be_read_by_its_id_but_not_erased(
    owner: str, reads: bool, erases: bool
) -> None:
    caller = access(host="192.0.2.7", anonymous="allow").identify(None, "192.0.2.8")
    assert (caller.may_read(owner), caller.may_erase(owner)) == (reads, erases)


@pytest.mark.parametrize(("owner", "its"), [("app", True), ("other", False), ("", False), ("address:192.0.2.8", False)])
def test_with_a_key_only_jobs_of_its_name_can_be_read_or_erased(owner: str, its: bool) -> None:
    caller = access(host="192.0.2.7", anonymous="allow").identify(KEY, "192.0.2.8")
    assert (caller.may_read(owner), caller.may_erase(owner)) == (its, its)


def test_a_proxy_that_is_not_trusted_is_named_in_the_log_once() -> None:
    behind = access(host="192.0.2.7", anonymous="allow")
    with structlog.testing.capture_logs() as logs:
        behind.forwarded("203.0.113.9", "10.0.0.2, 203.0.113.9")
        behind.forwarded("192.0.2.1", "203.0.113.9")
        behind.forwarded("192.0.2.1", "203.0.113.10")
    assert [(line["event"], line["address"]) for line in logs] == [("proxy_not_trusted", "192.0.2.1")]


def test_a_wrong_key_is_refused_where_none_is_needed() -> None:
    with pytest.raises(Unauthorized):
        access().identify(new_key(), "127.0.0.1")


def test_a_key_s_own_limits_come_before_those_of_all() -> None:
    assert access().identify(KEY, None).limits == QuotaLimits("10/minute", "60/hour")
    assert access().identify(None, None).limits == QuotaLimits("10/minute", None)


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        (None, "local"),
        ("nonsense", "unknown"),
    ],
)
def test_what_an_address_is_counted_as(address: str | None, counted: str) -> None:
    assert network(address) == counted


def test_the_headers_have_one_member_per_limit() -> None:
    states = [QuotaState("requests", 60, 60, 59, 12.4), QuotaState("video_seconds", 100, 3600, 0, 9.6)]
    assert rate_limit_headers(states) == {
        "RateLimit-Policy": '"requests";q=60;w=60, "video_seconds";q=100;w=3600',
        "RateLimit": '"requests";r=59;t=12, "video_seconds";r=0;t=10',
    }


def test_a_caller_without_limits_gets_no_headers() -> None:
    assert rate_limit_headers([]) == {}
