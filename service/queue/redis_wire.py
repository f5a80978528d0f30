"""How commands go over the wire: packed by hiredis, and written without a task of their own.

redis-py packs in Python, an argument at a time, and waits for each write in a new task. The two take longer than all
else that a process does for a script that it calls.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Iterable
from typing import Any

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError, TimeoutError

# An argument above this is sent as it is: packed, it would be in memory three times for a moment. It is looked for in
# commands of few arguments, such as SET: what a script gets is small, and looking through it would take longer than
# packing.
LARGE_BYTES = 128 << 10
FEW = 8


class DirectConnection(AbstractConnection):
    """A connection of redis-py with these two steps replaced; its errors are the same."""

    def pack_command(self, *args: Any) -> list[bytes]:
        """See redis-py."""
        name = args[0]
        # In a name of several words each is an argument of its own.
        if not isinstance(name, str) or " " in name or (len(args) <= FEW and any(map(_large, args))):
            return self._packed_by_redis_py(args)
        try:
            return [pack_command(args)]
        except TypeError:
            # It knows fewer types, and redis-py says in its own words what it does not take.
            return self._packed_by_redis_py(args)

    def _packed_by_redis_py(self, args: tuple[Any, ...]) -> list[bytes]:
        packed: list[bytes] = super().pack_command(*args)
        return packed

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        """See redis-py."""
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        if check_health:
            await self.check_health()  # type: ignore[no-untyped-call]
        if isinstance(command, str):
            command = command.encode()
        try:
            writer = self._writer
            if writer is None:
                raise ConnectionError("The connection was closed before the command was written.")
            writer.writelines([command] if isinstance(command, bytes) else command)
            async with asyncio.timeout(self.socket_timeout):
                await writer.drain()
        except builtins.TimeoutError:
            await self.disconnect(nowait=True)
            raise TimeoutError("Timeout writing to socket") from None
        except OSError as error:
            await self.disconnect(nowait=True)
            raise ConnectionError(f"Error while writing to socket: {error}") from error
        except BaseException:
            # Half of the command may be on its way.
            await self.disconnect(nowait=True)
            raise


def _large(argument: Any) -> bool:
    return isinstance(argument, bytes | memoryview) and len(argument) > LARGE_BYTES
