"""What is sent for a command, and what becomes of one that cannot be sent."""

import asyncio
import socket
from typing import Any

import pytest
from redis.asyncio import Connection
from redis.exceptions import ConnectionError, DataError, TimeoutError

from service.contracts import JobClass
from service.queue.redis_pool import TcpConnection
from service.queue.redis_wire import LARGE_BYTES

MANY = [f"field-{i}" for i in range(40)]


@pytest.mark.parametrize(
    "command",
    [
        ("PING",),
        ("SCRIPT LOAD", "return 1"),
        ("EVALSHA", "0" * 40, 2, "key:ä", b"key\x00", 1700000000.25, -3, 1e-7, float("inf"), 10**20, "", b""),
        ("EVALSHA", "0" * 40, 0, *MANY, bytes(60_000), memoryview(b"clip"), bytearray(b"more"), JobClass.BULK),
        ("SET", "key", bytes(LARGE_BYTES + 1), "PX", 5),
    ],
    ids=["name alone", "name of two words", "types", "many arguments", "large argument"],
)
def test_a_command_is_the_same_bytes_as_redis_py_sends(command: tuple[Any, ...]) -> None:
    assert b"".join(TcpConnection().pack_command(*command)) == b"".join(Connection().pack_command(*command))


@pytest.mark.parametrize("argument", [True, None, object(), 3 + 1j])
def test_what_redis_takes_no_values_of_is_refused(argument: object) -> None:
    with pytest.raises(DataError, match="Invalid input of type"):
        TcpConnection().pack_command("SET", "key", argument)


def test_a_large_clip_is_not_copied() -> None:
    clip = memoryview(bytes(LARGE_BYTES + 1))
    assert any(piece is clip for piece in TcpConnection().pack_command("SET", "key", clip))


async def connected(timeout_s: float) -> tuple[TcpConnection, socket.socket]:
    """A connection without a greeting, and its other end, which reads nothing."""
    near, far = socket.socketpair()
    connection = TcpConnection(socket_timeout=timeout_s)
    connection._reader, connection._writer = await asyncio.open_connection(sock=near)
    return connection, far


async def test_a_server_that_takes_no_bytes_is_given_up() -> None:
    connection, far = await connected(0.05)
    with far, pytest.raises(TimeoutError, match="Timeout writing to socket"):
        await connection.send_packed_command([bytes(8 << 20)], check_health=False)
    assert not connection.is_connected


async def test_a_server_that_has_gone_away_is_a_connection_error() -> None:
    connection, far = await connected(5.0)
    far.close()

    async def sending() -> None:
        while True:
            await connection.send_packed_command([bytes(1 << 20)], check_health=False)

    with pytest.raises(ConnectionError, match="Error while writing to socket"):
        await sending()
    assert not connection.is_connected


async def test_a_command_that_is_cancelled_half_way_leaves_no_connection_behind() -> None:
    connection, far = await connected(5.0)
    with far:
        sending = asyncio.create_task(connection.send_packed_command([bytes(8 << 20)], check_health=False))
        await asyncio.sleep(0)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
    assert not connection.is_connected
