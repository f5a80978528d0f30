"""A connection of redis-py whose every command waits for its turn, and may meet a fault."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from redis.asyncio.connection import UnixDomainSocketConnection
from redis.exceptions import ResponseError

from tests.simulation.server import Command

Step = Callable[[Sequence[Command]], Awaitable[list[Any]]]


class SimulatedConnection(UnixDomainSocketConnection):
    """Retries, pipelines and replies are redis-py's own; what is sent goes to `step` instead of a socket."""

    def __init__(self, *, step: Step, **options: Any) -> None:
        super().__init__(**options)
        self._step = step
        self._replies: deque[Any] = deque()
        self._up = False

    @property
    def is_connected(self) -> bool:
        return self._up

    async def connect(self) -> None:
        self._up = True

    async def disconnect(self, *_: Any, **__: Any) -> None:
        self._up = False
        self._replies.clear()

    async def can_read(self) -> bool:
        return bool(self._replies)

    def pack_command(self, *args: Any) -> list[Any]:
        return [args]

    def pack_commands(self, commands: Iterable[Iterable[Any]]) -> list[Any]:
        return list(commands)

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        self._up = True
        self._replies.clear()
        self._replies.extend(await self._step(command))

    async def read_response(self, *_: Any, **__: Any) -> Any:
        reply = self._replies.popleft()
        if isinstance(reply, ResponseError):
            raise reply
        return reply
