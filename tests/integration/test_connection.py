"""What may be asked of one Redis client, and what it says of a server that it cannot use."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError

from service.errors import QueueUnavailable
from service.local.redis import LocalRedis
from service.queue.connection import connect, translate_redis_errors
from service.queue.redis_keys import RedisKeys
from service.queue.write_probe import check_writable
from tests.integration.conftest import waiting

AT_ONCE = 300


async def test_hundreds_of_requests_may_ask_redis_in_the_same_moment(redis: Redis, keys: RedisKeys) -> None:
    assert await asyncio.gather(*(waiting(redis, keys) for _ in range(AT_ONCE))) == [0] * AT_ONCE


async def refusal(url: str, password_file: Path | None = None) -> str:
    """What is said where the first command fails."""
    client = connect(url, name="tests", password_file=password_file)
    try:
        with pytest.raises(QueueUnavailable) as error, translate_redis_errors():
            await client.ping()
        return error.value.detail
    finally:
        await client.aclose()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRedis]:
    """A server that asks for a password."""
    with LocalRedis(tmp_path_factory.mktemp("secured"), persist=False) as server:
        yield server


async def test_a_server_that_is_away_refuses_connections() -> None:
    assert await refusal("redis://127.0.0.1:1") == "Redis cannot be reached: it refuses connections."


async def test_a_name_that_there_is_not_cannot_be_resolved() -> None:
    assert "its name cannot be resolved" in await refusal("redis://redis.invalid")


async def test_a_socket_that_there_is_not_is_named() -> None:
    assert await refusal("unix:///nowhere/redis.sock") == "Redis cannot be reached: its socket does not exist."


async def test_a_wrong_password_is_told_from_a_server_that_is_away(redis_server: LocalRedis) -> None:
    url = redis_server.url.replace("://", "://user:wrong@")
    assert (await refusal(url)).startswith("Redis cannot be reached: it does not accept user and password")


async def test_a_port_without_tls_is_told_from_a_server_that_is_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            for _ in range(2):
                connection, _address = listener.accept()
                with connection:
                    connection.recv(1024)
                    connection.sendall(b"-ERR unknown command\r\n")

        threading.Thread(target=greet, daemon=True).start()
        said = await refusal(f"rediss://127.0.0.1:{listener.getsockname()[1]}")
    assert said.startswith("Redis cannot be reached: it does not speak TLS")


async def test_a_certificate_of_an_unknown_authority_is_told_from_a_server_that_is_away(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    await asyncio.to_thread(
        subprocess.run, [openssl, *make, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        said = await refusal(f"rediss://localhost:{server.sockets[0].getsockname()[1]}")
    assert said.startswith("Redis cannot be reached: its certificate is not accepted (self-signed certificate")


async def test_a_password_file_is_read_for_each_connection(secured: LocalRedis, tmp_path: Path) -> None:
    admin = Redis.from_url(secured.url)
    await admin.execute_command("ACL", "SETUSER", "rotated", "on", ">first", "+@all", "~*")
    file = tmp_path / "password"
    file.write_text("first\n")
    client = connect(secured.url.replace("://", "://rotated@"), name="rotating", password_file=file)
    try:
        assert await client.ping()
        await admin.execute_command("ACL", "SETUSER", "rotated", "resetpass", ">second")
        file.write_text("second\n")
        await admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert await client.ping()
    finally:
        await client.aclose()
        await admin.aclose()


async def test_a_password_file_that_cannot_be_read_is_named(redis_server: LocalRedis, tmp_path: Path) -> None:
    missing = tmp_path / "nothing"
    assert f"the password file {missing} cannot be read" in await refusal(redis_server.url, missing)


async def test_a_full_redis_takes_writes_as_soon_as_there_is_room(tmp_path: Path, keys: RedisKeys) -> None:
    with LocalRedis(tmp_path, persist=False) as server:
        client = connect(server.url, name="tests")
        await client.config_set("maxmemory", 1)
        await check_writable(client, keys)
        await client.aclose()


async def test_a_command_on_its_way_opens_no_connection_once_its_client_is_closed() -> None:
    met, ended = asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.release()
        await reader.read()
        writer.close()
        ended.release()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        client = connect(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", name="tests")
        command = asyncio.ensure_future(client.ping())
        await met.acquire()
        await client.aclose()
        with pytest.raises(ConnectionError):
            await command
        await ended.acquire()
        assert met.locked()
