"""RedisKeys, quotas and the headers that proxies and browsers send, on a program that listens to everybody."""

import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from service.api.api_keys import hashed, new_key
from service.client import Client
from service.errors import Unauthorized
from testing.program import Program, upload
from tests.e2e.test_admission import answer, request_head

ALICE, BOB, LIMITED, SECOND, COUNTED = (new_key() for _ in range(5))


def entry(name: str, key: str, more: str = "") -> str:
    return f'[[keys]]\nname = "{name}"\nhash = "{hashed(key)}"\n{more}\n'


KEYS = (
    entry("alice", ALICE)
    + entry("bob", BOB)
    + entry("limited", LIMITED, 'requests = "2/hour"\nvideo_seconds = "7/hour"')
    + entry("alice", SECOND)
    + entry("counted", COUNTED, 'requests = "9/hour"\nvideo_seconds = "70/hour"')
)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    directory = tmp_path_factory.mktemp("guarded")
    (directory / "keys.toml").write_text(KEYS)
    program = Program(
        directory,
        "--host",
        "0.0.0.0",  # noqa: S104 - what the test is about
        VIDTR_API_KEYS_FILE=str(directory / "keys.toml"),
        VIDTR_CORS_ORIGINS="https://app.example.com",
        VIDTR_ROOT_PATH="/video",
        VIDTR_TORCH_THREADS="1",
    )
    with program:
        yield program


def caller(program: Program, key: str | None) -> httpx.Client:
    client = program.client()
    if key is not None:
        client.headers["Authorization"] = f"Bearer {key}"
    return client


def submit(program: Program, key: str, clip: Path) -> httpx.Response:
    with caller(program, key) as client:
        client.headers["Prefer"] = "respond-async"
        return upload(client, clip)


@pytest.mark.parametrize("key", [None, "wrong", new_key()], ids=["none", "wrong", "unknown"])
def test_a_request_without_a_known_key_is_refused_before_its_body(guarded: Program, key: str | None) -> None:
    headers = [] if key is None else [f"Authorization: Bearer {key}"]
    with socket.create_connection(("127.0.0.1", guarded.port), timeout=10) as connection:
        connection.sendall(request_head(guarded, "?unknown=1", *headers))
        status, sent, problem = answer(connection)
    assert (status, problem["code"], sent["WWW-Authenticate"]) == (401, "unauthorized", "Bearer")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/x", "/v1/jobs/" + "0" * 32])
def test_every_route_of_the_api_needs_a_key(guarded: Program, path: str) -> None:
    with guarded.client() as client:
        assert client.get(path).status_code == 401


@pytest.mark.parametrize(
    "path", ["/", "/health/live", "/health/ready", "/metrics", "/openapi.json", "/.well-known/jwks.json"]
)
def test_health_metrics_and_the_page_need_none(guarded: Program, path: str) -> None:
    with guarded.client() as client:
        assert client.get(path).status_code == 200


def test_the_client_sends_its_key(guarded: Program, clip: Path) -> None:
    with Client(guarded.url, api_key=ALICE) as client:
        assert client.classify(clip).predictions
    with Client(guarded.url) as client, pytest.raises(Unauthorized):
        client.classify(clip)


def test_a_job_exists_only_for_the_name_that_sent_it(guarded: Program, clip: Path) -> None:
    job = submit(guarded, ALICE, clip).json()["id"]
    with caller(guarded, BOB) as bob:
        assert bob.get(f"/v1/jobs/{job}").status_code == 404
        assert bob.delete(f"/v1/jobs/{job}").status_code == 404
    with caller(guarded, SECOND) as alice:
        assert alice.get(f"/v1/jobs/{job}").status_code == 200
        assert alice.delete(f"/v1/jobs/{job}").status_code == 204


def test_an_idempotency_key_of_another_caller_leads_nowhere(guarded: Program, clip: Path) -> None:
    jobs = set()
    key = uuid4().hex
    for owner in (ALICE, BOB, SECOND):
        with caller(guarded, owner) as client:
            client.headers.update({"Idempotency-Key": key, "Prefer": "respond-async"})
            jobs.add(upload(client, clip).json()["id"])
    assert len(jobs) == 2


def test_quotas_are_counted_told_and_enforced_before_the_body(guarded: Program, clip: Path) -> None:
    first = submit(guarded, LIMITED, clip)
    assert first.status_code == 202
    assert first.headers["RateLimit-Policy"] == '"requests";q=2;w=3600, "video_seconds";q=7;w=3600'
    assert first.headers["RateLimit"].startswith('"requests";r=1;')
    assert '"video_seconds";r=4;' in first.headers["RateLimit"]
    assert submit(guarded, LIMITED, clip).status_code == 202
    with socket.create_connection(("127.0.0.1", guarded.port), timeout=10) as connection:
        connection.sendall(request_head(guarded, "", f"Authorization: Bearer {LIMITED}"))
        status, headers, problem = answer(connection)
    assert (status, problem["code"], problem["limit"], problem["actual"]) == (429, "quota_exceeded", 2, 3)
    assert int(headers["Retry-After"]) >= 1
    assert headers["RateLimit"].startswith('"requests";r=0;')


def test_a_page_of_an_allowed_origin_may_call_and_read(guarded: Program) -> None:
    preflight = {
        "Origin": "https://app.example.com",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, prefer",
    }
    with guarded.client() as client:
        allowed = client.options("/v1/classify", headers=preflight)
        assert allowed.status_code == 200
        assert allowed.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
        refused = client.options("/v1/classify", headers={**preflight, "Origin": "https://evil.example.com"})
        assert "Access-Control-Allow-Origin" not in refused.headers


def test_the_path_of_the_proxy_stands_in_what_is_told(guarded: Program, clip: Path) -> None:
    response = submit(guarded, ALICE, clip)
    assert response.headers["Location"] == f"/video/v1/jobs/{response.json()['id']}"
    with guarded.client() as client:
        assert client.get("/openapi.json").json()["servers"] == [{"url": "/video"}]


def test_the_log_says_who_may_come_in(guarded: Program) -> None:
    log = guarded.log.read_text()
    assert "'alice', 'bob', 'counted', 'limited'" in log
    assert "anonymous_access_enabled" not in log


def test_no_key_is_written_to_the_log(guarded: Program, clip: Path) -> None:
    submit(guarded, ALICE, clip)
    log = guarded.log.read_text()
    assert ALICE not in log
    assert "caller=alice" in log


def test_an_upload_without_a_place_is_not_counted_and_one_that_cannot_be_decoded_is(
    guarded: Program, clip: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clip.read_bytes()[:200])
    with caller(guarded, COUNTED) as client:
        refused, failed = upload(client, clip, model="unknown"), upload(client, broken)
    assert refused.status_code == 404
    assert '"requests";r=9;' in refused.headers["RateLimit"]
    assert failed.status_code in (415, 422)
    assert '"requests";r=8;' in failed.headers["RateLimit"]
    assert '"video_seconds";r=69;' in failed.headers["RateLimit"]


def test_behind_a_trusted_proxy_each_address_has_its_own_quota(tmp_path: Path, clip: Path) -> None:
    program = Program(
        tmp_path,
        VIDTR_TRUSTED_PROXIES="127.0.0.0/8",
        VIDTR_ANONYMOUS="allow",
        VIDTR_QUOTA_REQUESTS="1/hour",
        VIDTR_TORCH_THREADS="1",
    )
    with program:
        with program.client() as client:
            client.headers["Prefer"] = "respond-async"
            # The last address is the one that the proxy saw; what stands before it was claimed by the client.
            codes = []
            for forwarded in ("192.0.2.1", "192.0.2.2", "192.0.2.9, 192.0.2.1"):
                client.headers["X-Forwarded-For"] = forwarded
                codes.append(upload(client, clip).status_code)
        assert codes == [202, 202, 429]
        assert "anonymous_access_enabled" in program.log.read_text()
