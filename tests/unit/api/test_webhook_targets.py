import ipaddress

import httpcore
import pytest

from service.api.webhook_targets import check_url
from service.errors import InvalidOption
from service.sources.addresses import ForbiddenTarget, PinnedBackend, public

PUBLIC = ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34"]
NOT_PUBLIC = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.3.4",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",  # noqa: S104 - refused, not bound
    "224.0.0.1",
    "255.255.255.255",
    "192.0.2.1",
    "::1",
    "::",
    "fe80::1",
    "fc00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "2001:0:7f00:1::",
    "fec0::1",
    "3fff::1",
    "5f00::1",
    "::ffff:0:7f00:1",
    "192.88.99.1",
    "192.0.0.8",
    "168.63.129.16",
    "198.18.0.1",
    "240.0.0.1",
    "2001:db8::1",
    "100::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_of_a_machine_a_network_or_a_tunnel_is_not_public(address: str) -> None:
    assert not public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    ["https://example.com/hook", "https://example.com:8443/a?b=c", "https://93.184.216.34/", "https://[2606::1]/"],
)
def test_a_webhook_may_be(url: str) -> None:
    check_url(url, private=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/hook",
        "ftp://example.com/",
        "file:///etc/passwd",
        "example.com",
        "https://a..b/",
        "https://.example.com/",
        "https://" + "a" * 64 + ".example/",
        "https://" + "a." * 130 + "example/",
        "https://",
        "https:///path",
        "https://user:password@example.com/",
        "https://example.com/#part",
        "https://example.com:99999/",
        "https://example.com:0/",
        "https://exa mple.com/",
        "https://example.com/\r\nHost: other",
        "https://ex\u00e4mple.com/",
        "https://[::1",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://169.254.169.254/latest/meta-data/",
        "https://10.1.2.3/",
        "https://[::ffff:10.0.0.1]/",
    ],
)
def test_a_webhook_may_not_be(url: str) -> None:
    with pytest.raises(InvalidOption):
        check_url(url, private=False)


def test_private_targets_may_be_allowed() -> None:
    check_url("http://127.0.0.1:9000/hook", private=True)
    with pytest.raises(InvalidOption):
        check_url("file:///etc/passwd", private=True)


class Recorder(httpcore.AsyncMockBackend):
    def __init__(self) -> None:
        super().__init__([])
        self.hosts: list[str] = []

    async def connect_tcp(self, host: str, *args: object, **options: object) -> httpcore.AsyncNetworkStream:
        self.hosts.append(host)
        return await super().connect_tcp(host, *args, **options)  # type: ignore[arg-type]


class Names:
    """Answers each question with the next of its answers."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)

    async def __call__(self, host: str, port: int) -> list[str]:
        return self._answers.pop(0)


async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    inner = Recorder()
    # A rebinding name: public when it is looked at, private a moment later.
    backend = PinnedBackend(private=False, resolve=Names(["93.184.216.34"], ["127.0.0.1"]), inner=inner)
    await backend.connect_tcp("rebinding.example", 443)
    assert inner.hosts == ["93.184.216.34"]
    with pytest.raises(ForbiddenTarget):
        await backend.connect_tcp("rebinding.example", 443)
    assert inner.hosts == ["93.184.216.34"]


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "fe80::1%eth0"])
async def test_a_name_that_leads_inside_is_not_connected_to(address: str) -> None:
    inner = Recorder()
    backend = PinnedBackend(private=False, resolve=Names(["93.184.216.34", address]), inner=inner)
    with pytest.raises(ForbiddenTarget, match="not a public address"):
        await backend.connect_tcp("inside.example", 443)
    assert inner.hosts == []


@pytest.mark.parametrize("host", ["localhost", "127.1", "0x7f000001", "2130706433"])
async def test_every_spelling_of_this_machine_is_refused_by_the_real_resolver(host: str) -> None:
    with pytest.raises((ForbiddenTarget, httpcore.ConnectError)):
        await PinnedBackend(private=False, inner=Recorder()).connect_tcp(host, 443)


async def test_a_name_without_an_address_is_a_failed_connection() -> None:
    with pytest.raises(httpcore.ConnectError):
        await PinnedBackend(private=False, resolve=Names([]), inner=Recorder()).connect_tcp("none.example", 443)


async def test_a_socket_of_this_machine_is_no_target() -> None:
    with pytest.raises(ForbiddenTarget):
        await PinnedBackend(private=True).connect_unix_socket("/run/redis.sock")
