"""Where a webhook may go: public addresses only, against server-side request forgery."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import SplitResult, urlsplit

import httpcore

from service.errors import InvalidOption, sentence

# The registries of special-purpose addresses at IANA, less what is globally reachable; and an address that a cloud
# serves its machines from. What `ipaddress` calls global differs with the release of Python.
_NOT_PUBLIC_V4 = (
    "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24"
    " 192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4"
    " 168.63.129.16/32"
)
# Translation and tunnel prefixes carry an IPv4 address that the check of the outer one would not see. Of all the rest
# only 2000::/3 is given out.
_NOT_PUBLIC_V6 = "2001::/23 2001:db8::/32 2002::/16 3fff::/20"
_NOT_PUBLIC = tuple(map(ipaddress.ip_network, f"{_NOT_PUBLIC_V4} {_NOT_PUBLIC_V6}".split()))
_GIVEN_OUT_V6 = ipaddress.ip_network("2000::/3")
_LONGEST_NAME, _LONGEST_LABEL = 253, 63

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]
SocketOptions = Iterable[tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]]


class ForbiddenTarget(Exception):
    """The address of a webhook is not public."""


def check_url(url: str, *, private: bool) -> None:
    """Raise InvalidOption where `url` can be no webhook. Names are resolved when it is delivered, not now.

    With `private` plain http and private addresses are allowed.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _refused(url, str(error)) from error
    schemes = ("https", "http") if private else ("https",)
    if not url.isascii() or not url.isprintable() or " " in url:
        raise _refused(url, "a URL is printable ASCII")
    if parts.scheme not in schemes:
        raise _refused(url, f"the scheme must be {' or '.join(schemes)}")
    if not parts.hostname or port == 0:
        raise _refused(url, "host or port is missing")
    if parts.username is not None or parts.fragment:
        raise _refused(url, "neither a user nor a fragment may stand in it")
    name = parts.hostname.removesuffix(".")
    if len(name) > _LONGEST_NAME or not all(0 < len(label) <= _LONGEST_LABEL for label in name.split(".")):
        raise _refused(url, f"each part of the host's name has 1 to {_LONGEST_LABEL} letters, all {_LONGEST_NAME}")
    if not private:
        _check_literal(url, parts)


def _check_literal(url: str, parts: SplitResult) -> None:
    try:
        address = ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        return
    if not public(address):
        raise _refused(url, f"{address} is not a public address")


def _refused(url: str, why: str) -> InvalidOption:
    return InvalidOption(f"Option 'webhook' is not valid: {sentence(why)}", actual=url)


def public(address: Address) -> bool:
    """Whether packets to this address leave for the public Internet."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return public(address.ipv4_mapped)
        if address not in _GIVEN_OUT_V6:
            return False
    return not any(address in network for network in _NOT_PUBLIC)


async def resolve(host: str, port: int) -> list[str]:
    """All addresses of a name. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """Connects to the very address that was checked: a name that resolves differently a moment later changes nothing.

    The name itself still goes into the TLS handshake and into the header `Host`.
    """

    def __init__(
        self, *, private: bool, resolve: Resolve = resolve, inner: httpcore.AsyncNetworkBackend | None = None
    ) -> None:
        self._private = private
        self._resolve = resolve
        self._inner = inner or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface of httpcore
        local_address: str | None = None,
        socket_options: SocketOptions | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises ForbiddenTarget where any address of `host` is not public, httpcore.ConnectError without one."""
        try:
            addresses = await self._resolve(host, port)
        except OSError as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved: {error}") from error
        if not addresses:
            raise httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            if not self._private and not public(ipaddress.ip_address(address.partition("%")[0])):
                raise ForbiddenTarget(f"{host} is at {address}, which is not a public address")
        return await self._inner.connect_tcp(addresses[0], port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface of httpcore
        socket_options: SocketOptions | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Never: raises ForbiddenTarget."""
        raise ForbiddenTarget("a webhook is no socket of this machine")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._inner.sleep(seconds)
