"""The service needs no more of Redis than the access list of the compose stack gives it."""

import importlib.util
import time
from pathlib import Path

import pytest
from redis import Redis

from service.local.redis import LocalRedis
from tests.e2e.program import Program, upload

MAKE_SECRETS = Path(__file__).parents[2] / "docker" / "make_secrets.py"


def rules() -> list[str]:
    spec = importlib.util.spec_from_file_location("make_secrets", MAKE_SECRETS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.RULES).split()


@pytest.mark.slow
def test_no_command_of_a_job_s_life_is_refused(tmp_path: Path, clip: Path) -> None:
    with LocalRedis(tmp_path / "redis", persist=False) as server:
        admin = Redis.from_url(server.url)
        admin.execute_command("ACL", "SETUSER", "vidtr", "reset", "resetchannels", "on", ">secret", *rules())
        url = server.url.replace("unix://", "unix://vidtr:secret@")
        program = Program(tmp_path, "--redis-url", url, VIDTR_QUOTA_REQUESTS="1000/second")
        try:
            program.start()
            with program.client() as client:
                assert upload(client, clip).status_code == 200
                client.headers.update({"Idempotency-Key": "one", "Prefer": "respond-async"})
                first, again = upload(client, clip), upload(client, clip)
                assert first.json()["id"] == again.json()["id"]
                location = first.headers["Location"]
                end = time.monotonic() + 60
                while client.get(location).json()["status"] != "succeeded":
                    assert time.monotonic() < end
                    time.sleep(0.1)
                assert client.delete(location).is_success
                assert client.get("/metrics").is_success
        finally:
            program.stop()
        # The client library tells its name and version where it may, and does without where it may not.
        refused = {entry[b"object"] for entry in admin.execute_command("ACL", "LOG")} - {b"client", b"client|setinfo"}
        assert refused == set()
        admin.close()
