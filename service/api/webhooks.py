"""Telling callers that their jobs have ended: Standard Webhooks, signed, tried again for hours."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import httpcore
import structlog
from standardwebhooks.webhooks import Webhook

from service.api.periodic import Periodic
from service.api.targets import ForbiddenTarget, PinnedBackend, check_url
from service.errors import InvalidOption, QueueUnavailable
from service.queue.webhooks import Delivery, WebhookQueue
from service.telemetry import metrics

log = structlog.get_logger()

LOOK_S = 0.5
AT_ONCE = 16
BACKOFF = 4.0
LONGEST_WAIT_S = 6 * 3600.0
JITTER = 0.2
GONE = 410


@dataclass(frozen=True)
class WebhookConfig:
    """Field names equal those of `service.settings.Settings`."""

    webhook_secret: str | None
    webhook_private_targets: bool
    webhook_timeout_s: float
    webhook_retry_s: float
    webhook_give_up_s: float


def signing_secret(server_secret: str, owner: str) -> str:
    """The secret with which webhooks of one caller are signed: nobody can forge another caller's."""
    master = base64.b64decode(server_secret.removeprefix("whsec_"))
    derived = hmac.digest(master, f"vidtr webhook {owner}".encode(), hashlib.sha256)
    return "whsec_" + base64.b64encode(derived).decode()


def retry_in(attempts: int, config: WebhookConfig) -> float:
    """Seconds until the next try after so many: each wait is four times the last, spread a little."""
    wait_s = min(config.webhook_retry_s * BACKOFF ** min(attempts - 1, 20), LONGEST_WAIT_S)
    return wait_s * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret


def message(delivery: Delivery, secret: str, now: float) -> tuple[dict[str, str], bytes]:
    """Headers and body of one try."""
    body = json.dumps(
        {
            "type": f"job.{delivery.state}",
            "timestamp": datetime.fromtimestamp(delivery.at, UTC).isoformat(timespec="milliseconds"),
            "data": {"id": delivery.job_id, "status": delivery.state},
        }
    )
    signature = Webhook(secret).sign(delivery.message_id, datetime.fromtimestamp(now, UTC), body)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "vidtr-webhooks",
        "webhook-id": delivery.message_id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": signature,
    }
    return headers, body.encode()


class Webhooks:
    """Delivers what is due. Every API process looks for it, and whoever claims a delivery makes the next try."""

    def __init__(
        self, config: WebhookConfig, queue: WebhookQueue, backend: httpcore.AsyncNetworkBackend | None = None
    ) -> None:
        self._config = config
        self._queue = queue
        self._backend = backend or PinnedBackend(private=config.webhook_private_targets)
        self._looking = Periodic("webhooks", LOOK_S, self.deliver)

    def start(self) -> None:
        """Begin to deliver, where webhooks are set up; call once, in the event loop."""
        if self._config.webhook_secret is not None:
            self._looking.start()

    async def close(self) -> None:
        """End after the tries in hand."""
        await self._looking.close()

    def check(self, url: str | None) -> None:
        """Raise InvalidOption where a job could not tell `url` of its end."""
        if url is None:
            return
        if self._config.webhook_secret is None:
            raise InvalidOption("option 'webhook': webhooks are not set up on this server", actual=url)
        check_url(url, private=self._config.webhook_private_targets)

    async def deliver(self) -> None:
        """Try everything that is due now, once."""
        try:
            due = await self._queue.claim(AT_ONCE, 2 * self._config.webhook_timeout_s + 5)
            await asyncio.gather(*map(self._try, due))
        except QueueUnavailable as error:
            log.warning("queue_unavailable", detail=error.detail)

    async def _try(self, delivery: Delivery) -> None:
        problem = await self._send(delivery)
        wait_s = retry_in(delivery.attempts, self._config)
        if problem is None:
            outcome = "delivered"
        elif problem == f"status {GONE}" or time.time() + wait_s > delivery.at + self._config.webhook_give_up_s:
            outcome = "given_up"
        else:
            outcome = "failed"
        metrics.WEBHOOKS.labels(outcome).inc()
        level = log.info if outcome == "delivered" else log.warning
        level("webhook", job=delivery.job_id, outcome=outcome, attempts=delivery.attempts, problem=problem)
        if outcome == "failed":
            await self._queue.again(delivery, wait_s)
        else:
            await self._queue.done(delivery)

    async def _send(self, delivery: Delivery) -> str | None:
        """One try; what went wrong, or None."""
        secret = signing_secret(self._config.webhook_secret or "", delivery.owner)
        headers, body = message(delivery, secret, time.time())
        try:
            async with (
                asyncio.timeout(self._config.webhook_timeout_s),
                # A pool of its own: a connection that is kept would outlive the check of its address.
                httpcore.AsyncConnectionPool(network_backend=self._backend, max_connections=1) as pool,
                pool.stream("POST", delivery.url, headers=list(headers.items()), content=body) as response,
            ):
                # Redirects are not followed: where they lead was not checked, and a body must not be sent twice.
                return None if 200 <= response.status < 300 else f"status {response.status}"
        except ForbiddenTarget as error:
            return str(error)
        except TimeoutError:
            return f"no answer within {self._config.webhook_timeout_s:g} s"
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            return f"{type(error).__name__}: {error}"
        except Exception as error:
            # A fault of ours must not end the deliveries of everybody.
            log.exception("webhook_failed", job=delivery.job_id)
            return f"{type(error).__name__}: {error}"
