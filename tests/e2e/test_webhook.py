"""A job that tells a URL of its end, from the request to a receiver that verifies the message."""

import os
import queue
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from testing.program import upload
from tests.e2e.conftest import WEBHOOK_SECRET, Received


def test_the_receiver_verifies_the_message_with_the_secret_that_the_command_prints(
    client: httpx.Client, clip: Path, receiver: tuple[str, "queue.Queue[Received]"]
) -> None:
    url, received = receiver
    job = upload(client, clip, webhook=url).json()["id"]
    headers, body = received.get(timeout=60)
    secret = subprocess.run(
        [sys.executable, "-m", "service.cli.main", "keys", "webhook-secret", ""],
        env={**os.environ, "VIDTR_WEBHOOK_SECRET": WEBHOOK_SECRET},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    message = Webhook(secret).verify(body, headers)
    assert (message["type"], message["data"]) == ("job.succeeded", {"id": job, "status": "succeeded"})


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.com/", "no url", "https://user@example.com/"])
def test_a_url_that_can_be_no_webhook_is_refused(client: httpx.Client, clip: Path, url: str) -> None:
    response = upload(client, clip, webhook=url)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_option")
