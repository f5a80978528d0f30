"""One try to deliver a webhook: Standard Webhooks, signed, to an address that was checked."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

import httpcore
import structlog
from standardwebhooks.webhooks import Webhook

from service.sources.addresses import ForbiddenTarget

log = structlog.get_logger()


class Delivery(Protocol):
    """What is to be told to a URL: the end of a job or a batch, or an event of a live stream."""

    @property
    def job_id(self) -> str:
        """Whose it is; says in which partition it is kept."""

    @property
    def url(self) -> str:
        """Where it goes."""

    @property
    def owner(self) -> str:
        """The caller, with whose secret it is signed."""

    @property
    def at(self) -> float:
        """When it happened, in Unix seconds."""

    @property
    def attempts(self) -> int:
        """Tries so far, with this one."""

    @property
    def age_s(self) -> float:
        """Seconds since it happened."""

    @property
    def message_id(self) -> str:
        """The same for every try."""

    @property
    def type(self) -> str:
        """The type of the message."""

    @property
    def data(self) -> dict[str, Any]:
        """What the message says."""


@dataclass(frozen=True)
class Problem:
    """Why a try failed, and for how many seconds the receiver asks to be left alone."""

    text: str
    retry_after_s: float = 0.0


def signing_secret(server_secret: str, owner: str) -> str:
    """The secret with which webhooks of one caller are signed: no caller can forge another's."""
    master = base64.b64decode(server_secret.removeprefix("whsec_"))
    derived = hmac.digest(master, f"vidtr webhook {owner}".encode(), hashlib.sha256)
    return "whsec_" + base64.b64encode(derived).decode()


def message(delivery: Delivery, secret: str, now: float) -> tuple[dict[str, str], bytes]:
    """Headers and body of one try."""
    body = json.dumps(
        {
            "type": delivery.type,
            "timestamp": datetime.fromtimestamp(delivery.at, UTC).isoformat(timespec="milliseconds"),
            "data": delivery.data,
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


async def send(
    delivery: Delivery, server_secret: str, backend: httpcore.AsyncNetworkBackend, timeout_s: float
) -> Problem | None:
    """One try; what went wrong, or None."""
    secret = signing_secret(server_secret, delivery.owner)
    headers, body = message(delivery, secret, time.time())
    try:
        async with (
            asyncio.timeout(timeout_s),
            # A pool of its own: a connection that is kept would outlive the check of its address.
            httpcore.AsyncConnectionPool(network_backend=backend, max_connections=1) as pool,
            pool.stream("POST", delivery.url, headers=list(headers.items()), content=body) as response,
        ):
            # Redirects are not followed: where they lead was not checked, and a body must not be sent twice.
            if 200 <= response.status < 300:
                return None
            return Problem(f"status {response.status}", asked_for(response.headers, time.time()))
    except ForbiddenTarget as error:
        return Problem(str(error))
    except TimeoutError:
        return Problem(f"no answer within {timeout_s:g} s")
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
        return Problem(f"{type(error).__name__}: {error}")
    except Exception as error:
        # A fault of ours must not end the deliveries of everybody.
        log.exception("webhook_failed", job=delivery.job_id)
        return Problem(f"{type(error).__name__}: {error}")


def asked_for(headers: list[tuple[bytes, bytes]], now: float) -> float:
    """Seconds of a `Retry-After`, given as such or as a date; 0 where there is none that can be read."""
    for name, value in headers:
        if name.lower() == b"retry-after":
            text = value.decode("latin-1").strip()
            if text.isascii() and text.isdecimal():
                return float(text[:9])
            try:
                return max(0.0, parsedate_to_datetime(text).timestamp() - now)
            except (ValueError, OverflowError):
                return 0.0
    return 0.0
