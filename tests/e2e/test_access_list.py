"""The service needs no more of Redis than the access list of the compose stack gives it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import redis

from service.local.redis import LocalRedis
from testing.program import Program, upload
from tests.fixtures.access_list import refused, restricted

pytestmark = pytest.mark.slow

# The client library tells its name and version where it may, and does without where it may not.
COURTESY = {"client", "client|setinfo"}


def finished(client: httpx.Client, location: str) -> None:
    end = time.monotonic() + 60
    while client.get(location).json()["status"] != "succeeded":
        assert time.monotonic() < end
        time.sleep(0.1)


def test_no_command_of_a_job_s_life_is_refused(tmp_path: Path, clip: Path) -> None:
    with LocalRedis(tmp_path / "redis", persist=False) as server:
        url = restricted(server.url)
        quotas = {"VIDTR_QUOTA_REQUESTS": "1000/second", "VIDTR_QUOTA_VIDEO_SECONDS": "100000/day"}
        with Program(tmp_path, "--redis-url", url, settings=quotas) as program:
            with program.client() as client:
                assert upload(client, clip).status_code == 200
                client.headers.update({"Idempotency-Key": "one", "Prefer": "respond-async"})
                first, again = upload(client, clip), upload(client, clip)
                assert {first.status_code, again.status_code} == {202}, refused(server.url)
                assert first.json()["id"] == again.json()["id"]
                location = first.headers["Location"]
                finished(client, location)
                assert "succeeded" in client.get(f"{location}/events").text
                assert client.get("/v1/jobs").json()["jobs"]
                assert client.delete(location).is_success
                assert client.get("/v1/models").is_success
                assert client.get("/metrics").is_success
            dead = [sys.executable, "-m", "service.cli.main", "dead", "list"]
            assert subprocess.run(dead, env={**os.environ, "VIDTR_REDIS_URL": url}, timeout=60).returncode == 0
        assert refused(server.url) - COURTESY == set()


def test_a_command_that_is_not_in_the_list_is_seen_to_be_refused(tmp_path: Path) -> None:
    with LocalRedis(tmp_path / "redis", persist=False) as server:
        with redis.Redis.from_url(restricted(server.url)) as client:
            for command in (("SET", "foreign", "1"), ("KEYS", "vidtr:*"), ("PUBLISH", "foreign", "1"), ("FLUSHALL",)):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command(*command)
        assert refused(server.url) - COURTESY == {"foreign", "keys", "flushall"}
