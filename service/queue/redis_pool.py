"""Connections that end where a server is not, or no longer, the one that is written to, and look for it anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.client import Pipeline, PubSub
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import BusyLoadingError, ConnectionError, NoScriptError, RedisError, ResponseError, TimeoutError

from service.queue.redis_address import Primary
from service.queue.redis_problems import Misconfigured, NotWritable, moved_to, not_writable
from service.queue.redis_wire import DirectConnection
from service.redis_url import Address

# How long a command is sent again while no server takes writes. A planned failover is over by then; a longer one is an
# honest 503.
PATIENCE_S = 2.0
FEWEST_TRIES = 3
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 0.4
# Between two looks whether the server that is written to is still the one: a second of writes to the wrong one at most.
FOLLOW_EVERY_S = 1.0


class Patience(Retry):
    """Sends a command again: once where the connection was lost, for PATIENCE_S where no server takes writes."""

    async def call_with_retry(
        self,
        do: Callable[[], Any],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> Any:
        """See `redis.asyncio.retry.Retry`."""
        loop = asyncio.get_running_loop()
        # Counted from the first refusal: on a busy machine a command may have waited long for its turn.
        end, lost, refused = 0.0, 0, 0
        while True:
            try:
                return await do()
            except self._supported_errors as error:
                if is_retryable is not None and not is_retryable(error):
                    raise
                waits = isinstance(error, NotWritable)
                refused, lost = refused + waits, lost + (not waits)
                if refused == 1 and waits:
                    end = loop.time() + PATIENCE_S
                await (fail(error, refused + lost) if with_failure_count else fail(error))
                if lost > self._retries or (refused > FEWEST_TRIES and loop.time() >= end):
                    raise
                await asyncio.sleep(
                    min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (refused - 1)) if waits else self._backoff.compute(lost)
                )


class _Managed(DirectConnection):
    """Looks for its server each time it connects, and leaves one that does not take writes."""

    pool: Pool
    _generation = -1

    async def connect(self) -> None:
        """Connect where it is not connected, or where the pool has left the server meanwhile."""
        if self.is_connected and self._generation != self.pool.generation:
            await self.disconnect(nowait=True)
        await super().connect()  # type: ignore[no-untyped-call]

    async def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        """Find the server and connect. The caller retries, and only the caller: retries within retries multiply."""
        if self.is_connected:
            return
        self._generation = self.pool.generation
        self.pool.check_open()
        await self._aim(await self.pool.address())
        try:
            await super().connect_check_health(check_health=check_health, retry_socket_connect=False)
        finally:
            if self.pool.closed:
                await self.disconnect(nowait=True)
        self.pool.check_open()

    async def _aim(self, address: Address | None) -> None:
        if address is not None and isinstance(self, Connection):
            self.host, self.port = address

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """The next reply. Raises NotWritable where it says, in whatever way, that the server is the wrong one."""
        try:
            reply = await super().read_response(*args, **options)
        except (ResponseError, BusyLoadingError) as error:
            reason = not_writable(error)
            if reason is None:
                raise
            if (address := moved_to(error)) is not None:
                self.pool.primary.hint(address)
            await self._leave()
            raise NotWritable(reason) from error
        if isinstance(reply, dict) and b"proto" in reply:
            await self._greeted(reply)
            if options.get("push_request"):
                # Among the messages of a subscription, redis-py takes nothing else.
                return [b"pong", b""]
        return reply

    async def _greeted(self, greeting: dict[bytes, Any]) -> None:
        """A server says what it is: in its reply to HELLO, with which every connection begins."""
        if greeting.get(b"mode") == b"sentinel":
            await self.disconnect(nowait=True)
            raise Misconfigured("it is a Sentinel, for which `redis_url` must begin with redis+sentinel://")
        if greeting.get(b"role", b"master") != b"master":
            await self._leave()
            raise NotWritable("the server is a replica")
        if self._generation != self.pool.generation:
            await self.disconnect(nowait=True)
            raise NotWritable("another server is the primary now")
        self.pool.follow()

    async def _leave(self) -> None:
        await self.disconnect(nowait=True)
        await self.pool.leave(self._generation)


class TcpConnection(_Managed, Connection):  # type: ignore[misc]
    """To a host and port."""


class TlsConnection(_Managed, SSLConnection):  # type: ignore[misc]
    """The same, with TLS."""


class UnixConnection(_Managed, UnixDomainSocketConnection):
    """To a unix socket."""

    async def on_connect(self) -> None:
        """Nothing: redis-py says hello once more when the socket is open."""


CLASSES: dict[type[AbstractConnection], type[AbstractConnection]] = {
    Connection: TcpConnection,
    SSLConnection: TlsConnection,
    UnixDomainSocketConnection: UnixConnection,
}


class Pool(BlockingConnectionPool):
    """Connections to the server that is written to. All of them leave a server of which one found that it is not.

    Attributes:
        generation: counts the times that a server was left; a connection of an earlier one is not used again.
        closed: whether the pool was closed. A command that was on its way then opens no connection that nobody closes.
    """

    primary: Primary

    @classmethod
    def of(cls, url: str, find: Callable[[dict[str, Any]], Primary], **options: Any) -> Pool:
        """A pool for a URL that redis-py takes. `find` makes what finds the server, from redis-py's options."""
        pool: Pool = cls.from_url(url, **options)
        pool.connection_class = CLASSES[pool.connection_class]
        if "credential_provider" in pool.connection_kwargs:
            # It brings the user along.
            pool.connection_kwargs.pop("username", None)
        pool.primary = find(pool.connection_kwargs)
        return pool

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.generation = 0
        self.closed = False
        self._finding: asyncio.Future[Address | None] | None = None
        self._found: Address | None = None
        self._followed_at = -FOLLOW_EVERY_S
        self._following: asyncio.Task[None] | None = None

    def make_connection(self) -> AbstractConnection:
        """See redis-py."""
        connection: AbstractConnection = super().make_connection()  # type: ignore[no-untyped-call]
        if isinstance(connection, _Managed):
            connection.pool = self
        return connection

    async def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> AbstractConnection:
        """See redis-py."""
        self.follow()
        connection: AbstractConnection
        # While as many as these are free nobody waits for one, and there is no place in a queue to be taken.
        crowded = len(self._in_use_connections) >= self.max_connections // 2
        if self._available_connections and not crowded and not getattr(self, "_in_maintenance", False):
            connection = self.get_available_connection()  # type: ignore[no-untyped-call]
            try:
                await self.ensure_connection(connection)
            except BaseException:
                await self.release(connection)
                raise
            return connection
        connection = await super().get_connection()  # type: ignore[no-untyped-call]
        return connection

    def check_open(self) -> None:
        """Raise ConnectionError where the pool was closed."""
        if self.closed:
            raise ConnectionError("this client is closed")

    async def address(self) -> Address | None:
        """Where the server is. Connections that look at the same time share one question."""
        if self._finding is None:
            self._finding = asyncio.ensure_future(self.primary.find())
            self._finding.add_done_callback(self._on_found)
        return await asyncio.shield(self._finding)

    def _on_found(self, found: asyncio.Future[Address | None]) -> None:
        self._finding = None
        if not found.cancelled() and found.exception() is None:
            self._found = found.result()

    async def leave(self, generation: int) -> None:
        """Have no connection of this generation used again. Those that are idle are closed at once."""
        if generation != self.generation:
            return
        self.generation += 1
        for connection in tuple(self._available_connections):
            with suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)

    def follow(self) -> None:
        """Look, beside the command in hand and not too often, whether the primary is still the one that was found."""
        if self.primary.follows:
            self._look_again()

    async def suspect(self) -> None:
        """A write was taken and not replicated: the server may be one that was replaced and is not told so yet."""
        loop = asyncio.get_running_loop()
        if not self.primary.follows and loop.time() - self._followed_at >= FOLLOW_EVERY_S:
            self._followed_at = loop.time()
            await self.leave(self.generation)
        self.follow()

    def _look_again(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._followed_at < FOLLOW_EVERY_S or (self._following is not None and not self._following.done()):
            return
        self._followed_at = now
        self._following = asyncio.create_task(self._follow(), name="redis-follow")

    async def _follow(self) -> None:
        before, generation = self._found, self.generation
        with suppress(RedisError, OSError):
            if await self.address() != before and before is not None:
                await self.leave(generation)

    async def aclose(self) -> None:
        """Close every connection, and what finds the server."""
        self.closed = True
        for task in (self._following, self._finding):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError, RedisError, OSError):
                    await task
        await super().aclose()
        await self.primary.close()


class Client(Redis):
    """A client whose pipelines bring along the scripts that a server does not know."""

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """See redis-py."""
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class _Pipeline(Pipeline):
    """Sent again to another server, its scripts are not known there: redis-py asked the one before."""

    async def _execute_pipeline(self, connection: Any, commands: Any, raise_on_error: bool) -> Any:
        replies = await super()._execute_pipeline(connection, commands, False)
        if self.scripts and any(isinstance(reply, NoScriptError) for reply in replies):
            await self.load_scripts()  # type: ignore[no-untyped-call]
            replies = await super()._execute_pipeline(connection, commands, False)
        if raise_on_error:
            self.raise_first_error(commands, replies)
        return replies


async def ask_role(pubsub: PubSub) -> None:
    """Ask the server of a subscription what it is. Its reply comes as a `pong`; a replica's ends the connection."""
    await pubsub.execute_command("HELLO")


class FilePassword(CredentialProvider):
    """User and password. The password is read from a file for each connection, so that it can be rotated."""

    def __init__(self, username: str | None, file: Path) -> None:
        self._username = username
        self._file = file

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """See redis-py. Raises Misconfigured where the file cannot be read."""
        try:
            password = self._file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Misconfigured(f"the password file {self._file} cannot be read: {error}") from error
        return (self._username, password) if self._username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """See redis-py."""
        return self.get_credentials()


def retry() -> Patience:
    """How often a command is sent again."""
    return Patience(ConstantBackoff(0.05), 1, (ConnectionError, TimeoutError))
