"""Delivery of webhooks, retried for hours; a slow receiver delays no other."""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar
from urllib.parse import urlsplit

import httpcore
import structlog

from service.api.shares import Shares
from service.api.webhook_message import Delivery, Problem, send
from service.api.webhook_targets import check_url
from service.errors import InvalidOption, QueueUnavailable
from service.periodic import Periodic
from service.queue.partitions import Independently, PerPartition
from service.sources.addresses import PinnedBackend
from service.telemetry import metrics

log = structlog.get_logger()

LOOK_S = 0.5
# How often one look claims what is due, while it finds some for whom there is no place.
CLAIMS = 64
# Those wait a look longer for every so many that were found before them: a crowd is not gone through twice a second.
CROWD = 16
LONGEST_POSTPONED_S = 10.0
BACKOFF = 4.0
LONGEST_WAIT_S = 6 * 3600.0
JITTER = 0.2
GONE = 410
# Failures in a row after which a host gets one try at a time, and hosts that are remembered for it.
BREAK_AFTER = 3
REMEMBERED_HOSTS = 10_000


@dataclass(frozen=True)
class WebhookConfig:
    """Field names equal those of `service.settings.Settings`."""

    webhook_secret: str | None
    webhook_private_targets: bool
    webhook_timeout_s: float
    webhook_retry_s: float
    webhook_give_up_s: float
    webhook_concurrency: int = 16


def retry_in(attempts: int, config: WebhookConfig) -> float:
    """Seconds until the next try after so many: each wait is four times the last, spread a little."""
    wait_s = min(config.webhook_retry_s * BACKOFF ** min(attempts - 1, 20), LONGEST_WAIT_S)
    return wait_s * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret


Due = TypeVar("Due", bound=Delivery)


class Deliveries(Protocol[Due]):
    """What is still to be delivered, in one partition. Methods raise QueueUnavailable."""

    async def claim(self, count: int, lease_s: float) -> list[Due]:
        """Up to `count` deliveries that are due; no other process gets them for `lease_s`."""

    async def done(self, delivery: Due, *, gone: bool = False) -> bool:
        """Forget one that has arrived, or was given up: where its receiver is `gone` with all that would follow.

        Returns whether another follows at once.
        """

    async def postpone(self, delivery: Due, in_s: float) -> None:
        """Give one back that was claimed and not tried."""

    async def again(self, delivery: Due, in_s: float) -> None:
        """Let one be tried again later."""


class _Source(Generic[Due]):
    """Where the deliveries of one partition come from."""

    def __init__(self, queue: Deliveries[Due]) -> None:
        self.queue = queue
        self.claiming = asyncio.Lock()
        self.more = False
        """whether there was no place when it was last asked"""


class Webhooks(Generic[Due]):
    """Delivers webhooks that are due. Every API process looks for them; the one that claims a delivery makes the try.

    A try has one of `webhook_concurrency` places, of which owners and hosts have shares.
    """

    def __init__(
        self,
        config: WebhookConfig,
        queues: PerPartition[Deliveries[Due]],
        backend: httpcore.AsyncNetworkBackend | None = None,
        shares: Shares | None = None,
    ) -> None:
        """Without `shares` every owner and every host may have all places."""
        self._config = config
        self._queues = queues
        self._sources: PerPartition[_Source[Due]] = queues.map(_Source)
        self._claiming = Independently(LOOK_S)
        self._backend = backend or PinnedBackend(private=config.webhook_private_targets)
        shares = shares or Shares(1.0)
        self._owners = shares.of("webhooks", config.webhook_concurrency)
        self._hosts = shares.for_all().of("webhook_hosts", config.webhook_concurrency)
        self._failures: OrderedDict[str, int] = OrderedDict()
        self._tries: set[asyncio.Task[None]] = set()
        self._closing = False
        self._looking = Periodic("webhooks", LOOK_S, self._begin)

    def start(self) -> None:
        """Begin to deliver, where webhooks are set up; call once, in the event loop."""
        if self._config.webhook_secret is not None:
            self._looking.start()

    async def close(self) -> None:
        """End after the tries in hand."""
        self._closing = True
        await self._looking.close()
        while self._tries:
            await asyncio.wait(self._tries)

    def check(self, url: str | None) -> None:
        """Raise InvalidOption where a job could not tell `url` of its end."""
        if url is None:
            return
        if self._config.webhook_secret is None:
            raise InvalidOption(
                "Option 'webhook' is not valid: this server has no webhooks. The operator can set `webhook_secret`.",
                actual=url,
            )
        check_url(url, private=self._config.webhook_private_targets)

    async def deliver(self) -> None:
        """Try what is due now and has a place, once."""
        await self._begin()
        while self._tries:
            await asyncio.wait(self._tries)

    async def _begin(self) -> None:
        """Begin to try what is due, as long as there are places."""
        await self._claiming.run(self._sources, self._begin_from)

    async def _begin_from(self, source: _Source[Due]) -> None:
        try:
            async with source.claiming:
                await self._claim(source)
        except QueueUnavailable as error:
            log.warning("queue_unavailable", detail=error.detail)

    async def _claim(self, source: _Source[Due]) -> None:
        postponed = 0
        for _ in range(CLAIMS):
            free = self._config.webhook_concurrency - self._owners.total
            source.more = not free
            if not free:
                return
            due = await source.queue.claim(free, 2 * self._config.webhook_timeout_s + 5)
            for delivery in due:
                if self._take(delivery):
                    trying = asyncio.create_task(self._try(delivery), name=f"webhook-{delivery.job_id}")
                    self._tries.add(trying)
                    trying.add_done_callback(self._tries.discard)
                else:
                    postponed += 1
                    wait_s = min(LOOK_S * (1 + postponed // CROWD), LONGEST_POSTPONED_S)
                    await source.queue.postpone(delivery, wait_s)
            if len(due) < free:
                return

    def _take(self, delivery: Due) -> bool:
        """A place for a try, where owner and host may have one."""
        host = _host(delivery.url)
        if self._failures.get(host, 0) >= BREAK_AFTER and self._hosts.held(host):
            return False
        if self._owners.take(delivery.owner) is not None:
            return False
        if self._hosts.take(host) is not None:
            self._owners.give_back(delivery.owner)
            return False
        return True

    async def _try(self, delivery: Due) -> None:
        host, follows = _host(delivery.url), False
        try:
            secret = self._config.webhook_secret or ""
            problem = await send(delivery, secret, self._backend, self._config.webhook_timeout_s)
            self._remember(host, problem)
            follows = await self._settle(delivery, problem)
        except QueueUnavailable as error:
            # Its claim runs out, and then it is due again.
            log.warning("queue_unavailable", detail=error.detail)
        finally:
            self._owners.give_back(delivery.owner)
            self._hosts.give_back(host)
        of_this = self._sources.of(delivery.job_id)
        for source in self._sources:
            if (source.more or (follows and source is of_this)) and not self._closing:
                await self._begin_from(source)

    def _remember(self, host: str, problem: Problem | None) -> None:
        failures = 0 if problem is None else self._failures.get(host, 0) + 1
        self._failures.pop(host, None)
        if failures:
            self._failures[host] = failures
        if len(self._failures) > REMEMBERED_HOSTS:
            self._failures.popitem(last=False)

    async def _settle(self, delivery: Due, problem: Problem | None) -> bool:
        """Note what became of a try; whether another delivery follows at once."""
        wait_s = retry_in(delivery.attempts, self._config)
        gone = problem is not None and problem.text == f"status {GONE}"
        if problem is None:
            outcome = "delivered"
        else:
            wait_s = max(wait_s, min(problem.retry_after_s, LONGEST_WAIT_S))
            late = delivery.age_s + wait_s > self._config.webhook_give_up_s
            outcome = "given_up" if late or gone else "failed"
        metrics.WEBHOOKS.labels(outcome).inc()
        level = log.info if outcome == "delivered" else log.warning
        said = None if problem is None else problem.text
        level("webhook", job=delivery.job_id, outcome=outcome, attempts=delivery.attempts, problem=said)
        queue = self._queues.of(delivery.job_id)
        if outcome == "failed":
            await queue.again(delivery, wait_s)
            return False
        return await queue.done(delivery, gone=gone)


def _host(url: str) -> str:
    return urlsplit(url).netloc.lower()
