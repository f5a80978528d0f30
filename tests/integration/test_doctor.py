"""`vidtr doctor` beside a real Redis."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from typer.testing import CliRunner

from service.cli.doctor_redis import redis
from service.cli.main import app
from service.local.redis import LocalRedis
from service.settings import Settings
from tests.fixtures.access_list import restricted
from tests.fixtures.redis_sets import Cluster, ReplicaSet
from tests.fixtures.servers import SHIPPED_REPOSITORY


def doctor(redis_url: str, folder: Path, **settings: str) -> tuple[int, str]:
    """Exit status and findings of `vidtr doctor` on a machine where everything else is well."""
    environment = {
        "VIDTR_REDIS_URL": redis_url,
        "VIDTR_MODEL_REPOSITORY": str(SHIPPED_REPOSITORY),
        **{f"VIDTR_{name.upper()}": value for name, value in settings.items()},
    }
    with contextlib.chdir(folder):
        done = CliRunner().invoke(app, ["doctor"], env=environment, catch_exceptions=False)
    return done.exit_code, done.stdout


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRedis]:
    """A server as the service wants it."""
    with LocalRedis(tmp_path_factory.mktemp("lasting"), persist=True) as server:
        yield server


def test_a_redis_as_it_should_be_is_well(lasting: LocalRedis, tmp_path: Path) -> None:
    with Redis.from_url(lasting.url) as client:
        version = client.info()["redis_version"]
    status, said = doctor(lasting.url, tmp_path)
    assert status == 0, said
    assert f"ok       redis: version {version} answers" in said
    assert "ok       jobs after a restart of vidtr: kept" in said
    assert "ok       jobs after a crash of redis: kept: a 202 waits until its job is in the append-only file" in said
    assert "ok       jobs after a failover of redis: there is none" in said


def test_the_user_of_the_compose_stack_may_ask_what_the_doctor_asks(lasting: LocalRedis, tmp_path: Path) -> None:
    status, said = doctor(restricted(lasting.url), tmp_path)
    assert status == 0, said
    assert "ok       redis: version" in said


def test_a_redis_that_forgets_at_a_restart_is_a_warning(redis_server: LocalRedis, tmp_path: Path) -> None:
    status, said = doctor(redis_server.url, tmp_path)
    assert status == 0, said
    assert "warning  redis persistence: no append-only file" in said
    assert "→ set `appendonly yes`" in said


def test_a_redis_that_drops_keys_when_it_is_full_fails(tmp_path: Path) -> None:
    with LocalRedis(tmp_path / "redis", persist=True) as server, Redis.from_url(server.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        status, said = doctor(server.url, tmp_path)
    assert status == 1
    assert "failed   redis memory: the policy is allkeys-lru" in said
    assert "→ set `maxmemory-policy noeviction`" in said


def test_a_redis_that_is_full_before_the_queue_is_a_warning(tmp_path: Path) -> None:
    with LocalRedis(tmp_path / "redis", persist=True) as server, Redis.from_url(server.url) as client:
        client.config_set("maxmemory", 2**30)
        status, said = doctor(server.url, tmp_path)
    assert status == 0
    assert f"warning  redis memory: maxmemory is {2**30} bytes" in said
    assert "→ raise `maxmemory`, or lower VIDTR_MAX_QUEUE_BYTES" in said


def test_a_wrong_password_fails_and_says_so(lasting: LocalRedis, tmp_path: Path) -> None:
    wrong = restricted(lasting.url).replace("@", "-and-more@", 1)
    status, said = doctor(wrong, tmp_path)
    assert status == 1
    assert "failed   redis: Redis cannot be reached: " in said
    assert "password" in said


def test_a_port_where_nothing_listens_fails_with_advice_and_the_other_checks_are_made(tmp_path: Path) -> None:
    status, said = doctor("redis://127.0.0.1:9/0", tmp_path)
    assert status == 1
    assert "failed   redis: Redis cannot be reached: " in said
    assert "→ is it started, and are VIDTR_REDIS_URL's host, port and password right?" in said
    assert "ok       model repository" in said


@pytest.fixture(scope="module")
def replica_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    with ReplicaSet(tmp_path_factory.mktemp("set")).running() as started:
        yield started


def test_replicas_that_no_202_waits_for_are_a_warning(replica_set: ReplicaSet, tmp_path: Path) -> None:
    status, said = doctor(replica_set.servers[0].url, tmp_path)
    assert status == 0, said
    assert (
        "warning  jobs after a failover of redis: the last moments are lost: a 202 waits for none of the replicas"
        in said
    )
    assert "→ set VIDTR_REDIS_WAIT_REPLICAS=1" in said


def test_replicas_that_a_202_waits_for_keep_its_job(replica_set: ReplicaSet, tmp_path: Path) -> None:
    status, said = doctor(replica_set.servers[0].url, tmp_path, redis_wait_replicas="1")
    assert status == 0, said
    assert "ok       jobs after a failover of redis: kept: a 202 waits for 1 of 1 replicas" in said


def test_more_replicas_than_there_are_fail(replica_set: ReplicaSet, tmp_path: Path) -> None:
    status, said = doctor(replica_set.servers[0].url, tmp_path, redis_wait_replicas="2")
    assert status == 1, said
    assert "failed   jobs after a failover of redis: no 202 is given: 1 of 2 replicas acknowledge writes" in said


def test_a_replica_is_no_server_to_write_to(replica_set: ReplicaSet, tmp_path: Path) -> None:
    status, said = doctor(replica_set.servers[1].url, tmp_path)
    assert status == 1, said
    assert "failed   redis: Redis takes no writes now: the server is a replica." in said


def test_each_server_of_a_cluster_is_spoken_of_with_its_partitions(tmp_path: Path) -> None:
    def said() -> list[str]:
        settings = Settings(_env_file=None, redis_url=cluster.url, queue_partitions=4)
        return [f"{found.state} {found.name}: {found.detail}" for found in redis(settings)]

    with Cluster(tmp_path / "redis", 2, 1).running() as cluster:
        bare = cluster.servers[1]
        bare.client.config_set("appendonly", "no")
        lines = said()
        assert len(lines) == len(set(lines)), "each server once"
        assert "ok jobs after a crash of redis, partitions 0, 1: kept" in "\n".join(lines)
        assert "warning jobs after a failover of redis, partitions 0, 1: the last moments are lost" in "\n".join(lines)
        assert "warning jobs after a crash of redis, partitions 2, 3: lost: Redis keeps no append" in "\n".join(lines)
        assert (
            "warning jobs after a failover of redis, partitions 2, 3: no replica is attached that could take over"
            in lines
        )
        bare.kill()
        lines = said()
        assert "ok redis, partitions 0, 1: version" in "\n".join(lines)
        assert "failed redis, partitions 2, 3: Redis" in "\n".join(lines)


def test_a_server_of_a_cluster_that_is_addressed_alone_fails_and_says_so(tmp_path: Path) -> None:
    with Cluster(tmp_path / "redis", 2, 1).running() as cluster:
        found = list(redis(Settings(_env_file=None, redis_url=cluster.servers[0].url)))
    failed = [f"{one.detail} {one.advice}" for one in found if one.state == "failed"]
    assert any("cluster" in text for text in failed), found


@pytest.mark.parametrize("role", ["api", "worker", "doctor", "dead"])
def test_an_address_that_cannot_be_used_ends_a_command_with_the_name_of_the_setting(role: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "service.cli.main", role, *(["list"] if role == "dead" else [])],
        env={**os.environ, "VIDTR_REDIS_URL": "sentinel://127.0.0.1/main"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = " ".join(done.stderr.split())
    assert done.returncode == 2
    assert said.startswith("error setting redis_url: Value error, A Redis address must begin with one of redis://")
    assert "Traceback" not in said
