"""A real Redis whose time is the simulation's: lives run out and deliveries grow old when the simulation says so."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import time
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import hiredis
from redis._parsers.base import BaseParser
from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from service.local.redis import LocalRedis
from service.queue.redis_keys import GROUP
from service.queue.scripts import load
from tests.simulation.clock import EPOCH

NOW = "simulation:ms"
ASIDE_MS = 50
steady = time.monotonic
"""The machine's own: the simulation replaces `time.monotonic`"""

# Within a script, Redis' clock is the simulation's. What follows is the script as it stands in the service.
PRELUDE = f"""
local server = redis
local now_ms = tonumber(server.call('GET', '{NOW}'))
local function simulated(call)
  return function(...)
    local command = {{...}}
    if command[1] == 'TIME' then return {{tostring(math.floor(now_ms / 1000)), tostring(now_ms % 1000 * 1000)}} end
    if command[1] == 'XADD' then
      for i = 3, #command do
        if command[i] == '*' then command[i] = string.format('%.0f-*', now_ms) break end
      end
    end
    if command[1] == 'PEXPIREAT' then
      command[1], command[3] = 'PEXPIRE', string.format('%.0f', tonumber(command[3]) - now_ms)
    elseif command[1] == 'EXPIREAT' then
      command[1], command[3] = 'PEXPIRE', string.format('%.0f', tonumber(command[3]) * 1000 - now_ms)
    end
    local reply = call(unpack(command))
    -- Redis' own clock has gone on by some milliseconds meanwhile.
    if command[1] == 'PTTL' and reply > 0 then return math.max(1, math.floor(reply / 100 + 0.5) * 100) end
    return reply
  end
end
local redis = {{
  call = simulated(server.call), pcall = simulated(server.pcall), status_reply = server.status_reply,
  error_reply = server.error_reply, sha1hex = server.sha1hex, log = server.log,
}}
"""

# Time passes: what has a life has less of it, and what a worker took was taken longer ago.
# ARGV: milliseconds that pass, now.
ADVANCE = f"""
local passed = tonumber(ARGV[1])
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left >= 0 then
    if left <= passed then redis.call('DEL', key) else redis.call('PEXPIRE', key, left - passed) end
  end
  if key:find(':clips:', 1, true) then
    local there, rows = pcall(redis.call, 'XPENDING', key, '{GROUP}', '-', '+', 1000)
    for _, row in ipairs(there and rows or {{}}) do
      if not rows.err and #redis.call('XRANGE', key, row[1], row[1]) > 0 then
        redis.call('XCLAIM', key, '{GROUP}', row[2], 0, row[1], 'IDLE', math.max(0, row[3] + passed), 'JUSTID')
      end
    end
  end
end
redis.call('SET', '{NOW}', ARGV[2])
"""

Command = tuple[Any, ...]


@cache
def script_names() -> frozenset[str]:
    """The names of all scripts of the service."""
    found = (file.name for file in (files("service.queue") / "lua").iterdir())
    return frozenset(name.removesuffix(".lua") for name in found if name.endswith(".lua"))


class Server:
    """One connection to a private Redis server. Commands are answered at once, in the order in which they come."""

    def __init__(self, redis: LocalRedis) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(redis.socket_path))
        self._reader = hiredis.Reader(replyError=BaseParser.parse_error)
        self.now_ms, self._synced = 0, steady()
        # What redis-py asks for on a connection of its own.
        self.one("HELLO", 3)
        self._own: list[str] = []
        self._scripts: dict[str, str] = {}
        """their digests"""
        self._advance = self.load(ADVANCE)
        self._time = self.load(f"{PRELUDE}return redis.call('TIME')")

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def load(self, script: str) -> str:
        """The digest of a script of the simulation itself."""
        self._own.append(script)
        return str(self.one("SCRIPT", "LOAD", script).decode())

    def know(self, script: str) -> None:
        """Have a script of the service before it is called: how often it is sent must not depend on what ran before."""
        if script not in self._scripts:
            self._scripts[script] = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
            self.one("SCRIPT LOAD", script)

    def names(self, digests: Collection[str]) -> frozenset[str]:
        """The names of the scripts of the service with these digests."""
        return frozenset(name for name in script_names() if self._scripts.get(PRELUDE + load(name).text) in digests)

    def forget_scripts(self) -> None:
        """What a restart does to the scripts of the service."""
        self.send([("SCRIPT FLUSH",), *(("SCRIPT LOAD", script) for script in self._own)])

    def begin(self) -> None:
        """An empty server at the beginning of time."""
        self.send([("FLUSHALL",), ("SCRIPT FLUSH",)])
        self.send([("SCRIPT LOAD", script) for script in (*self._own, *self._scripts)])
        self.now_ms, self._synced = int(EPOCH * 1000), steady()
        self.one("SET", NOW, self.now_ms)

    def send(self, commands: Sequence[Command | bytes]) -> list[Any]:
        """Replies to commands that are sent together, some of them packed already; errors stand among them."""
        commands = [("EVALSHA", self._time, 0) if command[0] == "TIME" else command for command in commands]
        self._socket.sendall(b"".join(one if isinstance(one, bytes) else packed(one) for one in commands))
        return [self._reply() for _ in commands]

    def one(self, *command: Any) -> Any:
        """The reply to one command; raises what Redis refuses."""
        [reply] = self.send([command])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def pass_time(self, now_s: float) -> list[Command]:
        """What is to be sent first now that it is `now_s` seconds after the beginning."""
        before, self.now_ms = self.now_ms, max(self.now_ms, int((EPOCH + now_s) * 1000))
        # Redis has gone on by the machine's clock meanwhile, which is none of the simulation's business.
        aside_ms = int((steady() - self._synced) * 1000)
        if self.now_ms == before and aside_ms < ASIDE_MS:
            return []
        self._synced += aside_ms / 1000
        return [("EVALSHA", self._advance, 0, self.now_ms - before - aside_ms, self.now_ms)]

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Within it Redis is at its memory limit."""
        self.one("CONFIG", "SET", "maxmemory", 1)
        try:
            yield
        finally:
            self.one("CONFIG", "SET", "maxmemory", 0)

    def _reply(self) -> Any:
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(1 << 16))
        return reply


def packed(command: Command) -> bytes:
    """What goes over the wire."""
    name = command[0] if isinstance(command[0], str) else bytes(command[0]).decode()
    wire: bytes = hiredis.pack_command((*name.split(), *command[1:]))
    return wire


def in_simulated_time(client: Redis, server: Server) -> Redis:
    """Let the scripts that are registered with `client` see the simulation's clock."""
    register = client.register_script

    def registered(script: str) -> AsyncScript:
        server.know(PRELUDE + script)
        return register(PRELUDE + script)

    client.register_script = registered  # type: ignore[method-assign,assignment]
    return client
