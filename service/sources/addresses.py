"""Which addresses may be reached for a caller: public ones only, against server-side request forgery."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable

import httpcore

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

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]
SocketOptions = Iterable[tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]]


class ForbiddenTarget(Exception):
    """The address that a caller has named is not public."""


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
        """Raises what `address` raises, and what connecting raises."""
        address = await self.address(host, port)
        return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)

    async def address(self, host: str, port: int) -> str:
        """Where `host` is.

        Raises ForbiddenTarget where any address of it is not public, httpcore.ConnectError without one.
        """
        try:
            addresses = await self._resolve(host, port)
        except OSError as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved: {error}") from error
        if not addresses:
            raise httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            if not self._private and not public(ipaddress.ip_address(address.partition("%")[0])):
                raise ForbiddenTarget(f"{host} is at {address}, which is not a public address")
        return addresses[0]

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface of httpcore
        socket_options: SocketOptions | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Never: raises ForbiddenTarget."""
        raise ForbiddenTarget("a socket of this machine is no public address")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._inner.sleep(seconds)
