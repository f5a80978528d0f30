"""The models that live workers serve: they are announced in every partition, so that one that answers is enough."""

from __future__ import annotations

import asyncio

from service.contracts import ModelSpec
from service.errors import QueueUnavailable
from service.queue.fleet import Fleet
from service.queue.model_directory import ModelDirectory
from service.queue.partitions import PerPartition, unheard

# After so long without an answer the next partition is asked too.
PATIENCE_S = 0.5

Live = tuple[list[ModelSpec], Fleet]


class LiveModels:
    """Asks the partition that answered last. Methods raise QueueUnavailable where none can be reached."""

    def __init__(self, directories: PerPartition[ModelDirectory]) -> None:
        self._directories = directories
        self._preferred = 0

    async def live(self) -> Live:
        """What `ModelDirectory.live` says, of the first partition where workers are announced.

        One that has just come back without its data has no announcement for some seconds.
        """
        if len(self._directories) == 1:
            return await self._directories[0].live()
        left = [*range(self._preferred, len(self._directories)), *range(self._preferred)]
        asked: dict[asyncio.Task[Live], int] = {}
        empty: Live | None = None
        away: BaseException | None = None
        while left or asked:
            if left:
                number = left.pop(0)
                asked[unheard(self._directories[number].live())] = number
            patience_s = PATIENCE_S if left or empty else None
            ended, _ = await asyncio.wait(asked, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
            if not ended and not left:
                break
            for call in ended:
                number = asked.pop(call)
                if isinstance(call.exception(), QueueUnavailable):
                    away = call.exception()
                elif call.result()[1]:
                    self._preferred = number
                    return call.result()
                else:
                    empty = call.result()
        if empty is None:
            raise away or AssertionError
        return empty

    async def list(self) -> list[ModelSpec]:
        """Every model version that a live worker serves, by name and then newest version first."""
        return (await self.live())[0]
