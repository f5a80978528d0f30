"""The Lua scripts of `service/queue/lua`: composed once, and called with named keys and arguments.

A script begins with comments. Among them `-- KEYS:` and `-- ARGV:` name its keys and arguments, in order; a name
that ends with `...` means any number of values. `-- INCLUDE:` names fragments of `lua/include` that come before it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

MANY = "..."
_HEADER = re.compile(r"^-- (KEYS|ARGV|INCLUDE): (.*(?:\n--   .*)*)$", re.M)
_FOLDER = files(__package__) / "lua"


@dataclass(frozen=True)
class Names:
    """The names of a script's keys, or of its arguments, in order."""

    names: tuple[str, ...]
    many: frozenset[str]
    """those that mean any number of values"""

    @classmethod
    def read(cls, header: str | None) -> Names:
        """From the names in a header; None where the script has none."""
        found = _listed(header)
        return cls(
            tuple(name.removesuffix(MANY) for name in found),
            frozenset(name.removesuffix(MANY) for name in found if name.endswith(MANY)),
        )

    def in_order(self, given: Mapping[str, Any]) -> list[Any]:
        """The list that the script gets. Raises TypeError unless exactly these names are given, in this order."""
        if tuple(given) != self.names:
            raise TypeError(f"The script takes {', '.join(self.names)}; it was given {', '.join(given)}.")
        values = list(given.values())
        for at in self._many_at:
            values[at : at + 1] = values[at]
        return values

    @cached_property
    def _many_at(self) -> tuple[int, ...]:
        """Indexes of the names that mean any number, the last first, so that the others keep theirs."""
        return tuple(at for at in reversed(range(len(self.names))) if self.names[at] in self.many)


@dataclass(frozen=True)
class Source:
    """A script as it is sent to Redis."""

    text: str
    keys: Names
    arguments: Names


def source(name: str) -> str:
    """The text of a file, such as `finish` or `include/now`."""
    return (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")


@cache
def load(name: str) -> Source:
    """A script with its fragments, each of them once and after those that it includes itself."""
    pieces = _pieces(name)
    headers = _headers(pieces[name])
    return Source("\n".join(pieces.values()), Names.read(headers.get("KEYS")), Names.read(headers.get("ARGV")))


def pieces_of(name: str) -> list[str]:
    """The names of the files that a script consists of, in their order."""
    return list(_pieces(name))


def _pieces(name: str) -> dict[str, str]:
    text = source(name)
    pieces: dict[str, str] = {}
    for fragment in _listed(_headers(text).get("INCLUDE")):
        pieces |= _pieces(f"include/{fragment}")
    return pieces | {name: text}


def _headers(text: str) -> dict[str, str]:
    return {kind: names.replace("\n--", "") for kind, names in _HEADER.findall(text)}


def _listed(names: str | None) -> list[str]:
    return [name.strip() for name in names.split(",")] if names else []


@dataclass(frozen=True)
class Call:
    """Keys and arguments of one call, by their names in the script's header, in its order."""

    keys: Mapping[str, Any]
    args: Mapping[str, Any]


class Script:
    """A script that is registered with a Redis client, and sent to the server by its digest."""

    def __init__(self, redis: Redis, name: str) -> None:
        found = load(name)
        self._keys = found.keys
        self._arguments = found.arguments
        self._registered = redis.register_script(found.text)

    async def __call__(
        self, *, keys: Mapping[str, Any], args: Mapping[str, Any], client: Pipeline | None = None
    ) -> Any:
        """The reply, or None where the call is queued in the pipeline `client`. Raises what redis-py raises.

        Raises TypeError unless keys and arguments are those of the script's header, in its order.
        """
        return await self._registered(self._keys.in_order(keys), self._arguments.in_order(args), client=client)
