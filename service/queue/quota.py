"""Quotas of callers: sliding windows that all API processes share, counted by the `limits` library in Redis."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from limits import RateLimitItem, parse
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import Redis

from service.errors import QuotaExceeded
from service.queue.connection import translate_redis_errors
from service.queue.redis_keys import RedisKeys

Kind = Literal["requests", "video_seconds"]


@dataclass(frozen=True)
class QuotaLimits:
    """The quotas of one caller, such as `60/minute` or `36000/day`; None is no limit."""

    requests: str | None = None
    video_seconds: str | None = None

    def items(self) -> dict[Kind, RateLimitItem]:
        """The limits that there are."""
        texts: dict[Kind, str | None] = {"requests": self.requests, "video_seconds": self.video_seconds}
        return {kind: parse(text) for kind, text in texts.items() if text is not None}


@dataclass(frozen=True)
class QuotaState:
    """The state of one limit: `remaining` of `amount` in a window of `window_s`; more is available in `reset_s`."""

    kind: Kind
    amount: int
    window_s: int
    remaining: int
    reset_s: float


class Quotas:
    """Counters of one installation. Methods raise QueueUnavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, keys: RedisKeys) -> None:
        storage = RedisStorage(
            "async+redis://",
            implementation="redispy",
            key_prefix=keys.quotas,
            connection_pool=redis.connection_pool,  # type: ignore[arg-type]
        )
        self._windows = SlidingWindowCounterRateLimiter(storage)

    async def spend(self, caller: str, limits: QuotaLimits, kind: Kind, cost: int) -> None:
        """Take `cost` of a quota, or raise QuotaExceeded and take nothing."""
        item = limits.items().get(kind)
        if item is None or cost <= 0:
            return
        with translate_redis_errors():
            taken = await self._windows.hit(item, kind, caller, cost=cost)
        if not taken:
            raise self._exceeded(await self._state(caller, kind, item), cost)

    async def spend_left(self, caller: str, limits: QuotaLimits, kind: Kind, cost: int) -> None:
        """Take `cost` of a quota, or all that is left where that is less."""
        item = limits.items().get(kind)
        if item is None:
            return
        left = (await self._state(caller, kind, item)).remaining
        if (taken := min(cost, left)) > 0:
            with translate_redis_errors():
                await self._windows.hit(item, kind, caller, cost=taken)

    async def check(self, caller: str, limits: QuotaLimits, kind: Kind) -> None:
        """Raise QuotaExceeded where nothing is left of a quota; takes nothing."""
        item = limits.items().get(kind)
        if item is None:
            return
        state = await self._state(caller, kind, item)
        if state.remaining < 1:
            raise self._exceeded(state, 1)

    async def states(self, caller: str, limits: QuotaLimits) -> list[QuotaState]:
        """The state of each limit of the caller."""
        return [await self._state(caller, kind, item) for kind, item in limits.items().items()]

    async def _state(self, caller: str, kind: Kind, item: RateLimitItem) -> QuotaState:
        with translate_redis_errors():
            stats = await self._windows.get_window_stats(item, kind, caller)
        reset_s = max(0.0, stats.reset_time - time.time())
        return QuotaState(kind, item.amount, item.get_expiry(), stats.remaining, reset_s)

    @staticmethod
    def _exceeded(state: QuotaState, cost: int) -> QuotaExceeded:
        what = "requests" if state.kind == "requests" else "seconds of video"
        detail = (
            f"{cost} {what} are more than the {state.remaining} left of {state.amount} in {state.window_s} s."
            if cost <= state.amount
            else f"This video has {cost} {what}; the quota allows {state.amount} in {state.window_s} s."
        )
        # The amount used in the last window is freed gradually; a cost above the whole quota never fits.
        missing = max(1, cost - state.remaining)
        retry_after_s = max(state.reset_s, min(missing, state.amount) * state.window_s / state.amount)
        return QuotaExceeded(
            detail,
            limit=state.amount,
            actual=state.amount - state.remaining + cost,
            retry_after_s=retry_after_s if cost <= state.amount else None,
        )
