"""Finds the server that is written to: asked for anew by each connection, because it changes in a failover."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError, ResponseError

from service.queue.redis_problems import NotWritable
from service.redis_url import Address, RedisUrl

# A Sentinel or a server that is gone must cost less than a failover may.
ASK_TIMEOUT_S = 1.0


class Primary(Protocol):
    """The server that is written to, as far as it can be known before one connects to it."""

    follows: bool
    """whether it is worth asking at intervals: the old server may say for a while that it is the one"""

    async def find(self) -> Address | None:
        """Where it is; None for the one address that stands in the URL. Raises NotWritable."""

    def hint(self, address: Address) -> None:
        """A server has said that it is here."""

    async def close(self) -> None:
        """Hang up."""


class OneServer:
    """A server that is always found at the same name, whichever machine that is."""

    follows = False

    async def find(self) -> Address | None:
        """See `Primary`."""
        return None

    def hint(self, address: Address) -> None:
        """The URL names one server: there is no other one to go to."""

    async def close(self) -> None:
        """Nothing is open."""


class OfSentinels:
    """The primary of a service, as a majority of its Sentinels sees it."""

    follows = True

    def __init__(self, url: RedisUrl, options: dict[str, Any]) -> None:
        """`options` are those of a redis-py client: TLS."""
        username, password = url.sentinel_login
        self._service = url.service
        self._names = _listed(url.addresses)
        self._sentinels = [
            Redis(host=host, port=port, username=username, password=password, **options) for host, port in url.addresses
        ]

    async def find(self) -> Address | None:
        """See `Primary`."""
        asked = [asyncio.ensure_future(self._ask(sentinel)) for sentinel in self._sentinels]
        views: list[tuple[int, Address]] = []
        failures: list[Exception] = []
        try:
            for answer in asyncio.as_completed(asked):
                try:
                    views.append(await answer)
                except (RedisError, OSError) as error:
                    failures.append(error)
                if len(views) > len(asked) // 2:
                    break
        finally:
            for question in asked:
                question.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        if not views:
            unknown = any("No such master" in str(error) for error in failures)
            reason = f"know no service {self._service!r}" if unknown else "do not answer"
            raise NotWritable(f"the Sentinels at {self._names} {reason}")
        # One that was cut off still sees the primary of before, of an earlier epoch.
        return max(views)[1]

    async def _ask(self, sentinel: Redis) -> tuple[int, Address]:
        pipe: Any = sentinel.pipeline(transaction=False)
        pipe.sentinel_master(self._service)
        # The state names the server of before until the replicas follow the new one; this does not.
        pipe.sentinel_get_master_addr_by_name(self._service)
        state, (host, port) = await pipe.execute()
        return int(state["config-epoch"]), (str(host), int(port))

    def hint(self, address: Address) -> None:
        """Only Sentinels are asked."""

    async def close(self) -> None:
        """See `Primary`."""
        for sentinel in self._sentinels:
            await sentinel.aclose()


class OfCluster:
    """The server of a cluster that has the slot of one hash tag. All keys of a client have that tag."""

    follows = False

    def __init__(self, url: RedisUrl, tag: str, options: dict[str, Any]) -> None:
        """`options` are those of a redis-py client: TLS, user and password. Raises ValueError where `tag` is empty."""
        if not tag:
            raise ValueError("In a cluster the keys of a client need a hash tag.")
        self._tag = tag
        self._slot = key_slot(tag.encode())
        self._names = _listed(url.addresses)
        self._options = options
        self._servers = list(url.addresses)
        self._hint: Address | None = None

    async def find(self) -> Address | None:
        """See `Primary`."""
        if self._hint is not None:
            address, self._hint = self._hint, None
            return address
        answered = False
        for _ in range(len(self._servers)):
            # Another one each time: the view of one that was cut off is an old one.
            server = self._servers.pop(0)
            self._servers.append(server)
            try:
                slots = await self._slots(server)
            except (RedisError, OSError):
                continue
            answered = True
            if (owner := self._owner(slots, server)) is not None:
                return owner
        reason = f"has no server for slot {self._slot} of the keys {{{self._tag}}}" if answered else "does not answer"
        raise NotWritable(f"the cluster of {self._names} {reason}")

    async def _slots(self, server: Address) -> Sequence[Any]:
        client = Redis(host=server[0], port=server[1], **self._options)
        try:
            # As two words, so that redis-py leaves the reply as it is.
            slots: Sequence[Any] = await client.execute_command("CLUSTER", "SLOTS")
        except ResponseError as error:
            raise NotWritable(str(error)) from error
        finally:
            await client.aclose()
        return slots

    def _owner(self, slots: Sequence[Any], asked: Address) -> Address | None:
        found = None
        for first, last, primary, *replicas in slots:
            for server in (primary, *replicas):
                self._learn(_address(server, asked))
            if first <= self._slot <= last:
                found = _address(primary, asked)
        return found

    def _learn(self, address: Address) -> None:
        if address not in self._servers:
            self._servers.append(address)

    def hint(self, address: Address) -> None:
        """See `Primary`."""
        self._hint = address

    async def close(self) -> None:
        """Nothing is open."""


def primary_of(url: RedisUrl, tag: str, options: dict[str, Any]) -> Primary:
    """What finds the server of `url`; `options` are those of redis-py for its servers. Raises ValueError."""
    if url.kind == "server":
        return OneServer()
    asking: dict[str, Any] = {
        **{name: value for name, value in options.items() if name.startswith("ssl_")},
        "ssl": url.tls,
        "socket_timeout": ASK_TIMEOUT_S,
        "socket_connect_timeout": ASK_TIMEOUT_S,
        "decode_responses": True,
        "retry": None,
        "driver_info": None,
    }
    if url.kind == "sentinel":
        return OfSentinels(url, asking)
    for name in ("username", "password", "credential_provider"):
        if name in options:
            asking[name] = options[name]
    return OfCluster(url, tag, asking)


def _address(server: Sequence[Any], asked: Address) -> Address:
    """Host and port of a reply; a server that does not know its own name leaves it out."""
    return str(server[0] or asked[0]), int(server[1])


def _listed(addresses: Sequence[Address]) -> str:
    return ", ".join(f"{host}:{port}" for host, port in addresses)
