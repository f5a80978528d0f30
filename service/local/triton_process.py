"""A private Triton Inference Server on loopback ports."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from service.inference.threads import SPIN
from service.inference.triton_access import restrictions
from service.local.loopback import answers
from service.local.process import LocalServerError, NotReadyInTime, ServerProcess, free_ports
from service.local.stillness import Stillness, session_cpu_s
from service.local.triton_install import is_installed, library_path, server_binary
from service.local.triton_memory import SharedRegions

_HOST = "127.0.0.1"
_START_TIMEOUT_S = 120.0
_STARTS = 5
_STILL_S = 20.0
_REVIVALS, _REVIVALS_S = 3, 60.0
# What Triton's Python backend says of a model's process of which it heard nothing for a second.
_NOT_HEARD = ("is not healthy", "obtain the health mutex")
# How long the server lets requests finish, and how much later it is killed: a dead Python stub makes it overstay.
_EXIT_TIMEOUT_S = 10
_STOP_GRACE_S = _EXIT_TIMEOUT_S + 5.0

# Clips and batches are allocated and freed by the megabyte. By default glibc gives each back to the system at once and
# pays for zeroed pages again. `benchmarks/triton_transport.py` measures it.
MALLOC = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**28),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
}


@dataclass(frozen=True, slots=True)
class TritonAddresses:
    """`host:port` of each of the server's three ports."""

    grpc: str
    http: str
    metrics: str


class LocalTriton:
    """Starts and stops `tritonserver`; a context manager.

    `directory` is where `install_triton` put it, `repository` the models it serves, `log` its log file. The ports are
    chosen once: a server that is stopped and started again comes back at the same addresses.
    """

    def __init__(
        self,
        directory: Path,
        repository: Path,
        *,
        log: Path,
        explicit: bool = False,
        otlp: str | None = None,
        malloc: Mapping[str, str] = MALLOC,
        key: str | None = None,
        operators: Sequence[str] = (),
    ) -> None:
        """`explicit` lets models be loaded and unloaded while it runs; all that are there are loaded at the start.
        `otlp` is where its spans of traced calls go, a base URL. `malloc` are variables that tune its allocator.
        `key` is what callers must bring; none without it. `operators` are allowed in TorchScript files besides those
        that compute.
        """
        self.directory = directory
        self.repository = repository
        self._log = log
        self._explicit = explicit
        self._otlp = otlp
        self._malloc = malloc
        self._key = key
        self._operators = operators
        self._ports = free_ports(3)
        self.regions = SharedRegions(f"vidtr_triton_{os.getpid()}_{self._ports[0]}_")
        self._server: ServerProcess | None = None
        self._revived_at: deque[float] = deque(maxlen=_REVIVALS)

    @property
    def addresses(self) -> TritonAddresses:
        """Where the server answers, whether it runs or not."""
        return TritonAddresses(*(f"{_HOST}:{port}" for port in self._ports))

    @property
    def pid(self) -> int | None:
        """Process id of the running server, None when it does not run."""
        return self._server.pid if self._server is not None else None

    def start(self) -> None:
        """Start the server and wait until all models are loaded and warm.

        On a machine that stands still for a second while a model is loaded, Triton's Python backend gives the model up,
        and then often aborts, or waits for ever for the model's process. Such a server is started anew, up to five
        times in all; what is wrong with a model ends it in another way.

        Raises:
            LocalServerError: it is not installed, a path has a space, it ended (a model that does not load ends it), or
                it took too long; the message ends with its log.
        """
        if not is_installed(self.directory):
            raise LocalServerError(f"no Triton in {self.directory} for this Python: run `vidtr install-triton` first")
        for path in (self.repository.absolute(), self.directory.absolute()):
            # Its Python backend takes what follows for the next argument of a stub, and waits for the stub for ever.
            if any(character.isspace() for character in str(path)):
                raise LocalServerError(f"the local Triton cannot use {path}: its name has a space. Link to it")
        self._log.parent.mkdir(parents=True, exist_ok=True)
        shortage = self.regions.shortage()
        for left in reversed(range(_STARTS)):
            self._server = ServerProcess(
                self._command(), name="the local Triton server", log=self._log, environment=self._environment()
            )
            try:
                self._server.start()
                self._wait(self._server)
            except LocalServerError as error:
                failed = self._ended_by_itself(self.stop()) and not isinstance(error, NotReadyInTime)
                if not (failed and left):
                    if shortage:
                        raise LocalServerError(f"{error}\n{shortage}") from error
                    raise
            except BaseException:
                self.stop()
                raise
            else:
                return

    def _wait(self, server: ServerProcess) -> None:
        session = server.pid or 0
        stillness = Stillness(lambda: session_cpu_s(session), _STILL_S)

        def ready() -> bool:
            if stillness.lasts():
                # Its processes wait for each other, so that it would take all of its time to end.
                server.stop(grace_s=0)
                still = f"the local Triton server computed nothing for {_STILL_S:g} s while it started"
                raise LocalServerError(f"{still}: see {self._log}")
            return self._ready()

        server.wait_until(ready, _START_TIMEOUT_S)

    def _ended_by_itself(self, status: int | None) -> bool:
        """Whether Triton failed, and not a model, by the status and the log of its last start."""
        if status in (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGKILL):
            return True
        log = self._log.read_text(errors="replace")
        return any(words in log for words in _NOT_HEARD)

    def check(self) -> None:
        """Raises LocalServerError, with the end of the server's log, where it was started and has ended."""
        if self._server is not None:
            self._server.check()

    def revive(self) -> str | None:
        """Start the server again where it has ended by itself; why it had ended, or None where it runs.

        Raises:
            LocalServerError: it has ended for the fourth time in a minute, or does not start again.
        """
        try:
            self.check()
        except LocalServerError as error:
            now = time.monotonic()
            if len(self._revived_at) == _REVIVALS and now - self._revived_at[0] < _REVIVALS_S:
                raise
            self._revived_at.append(now)
            self.stop()
            self.start()
            return str(error)
        return None

    def stop(self) -> int | None:
        """Let requests finish, then end; the exit status, or None when it did not run."""
        server, self._server = self._server, None
        if server is None:
            return None
        status = server.stop(_STOP_GRACE_S)
        self.regions.remove()
        return status

    def _command(self) -> list[str]:
        grpc, http_, metrics = self._ports
        options = {
            "model-repository": self.repository.absolute(),
            "backend-directory": (self.directory / "backends").absolute(),
            "cache-directory": (self.directory / "pytriton" / "tritonserver" / "caches").resolve(),
            "grpc-address": _HOST,
            "grpc-port": grpc,
            "http-address": _HOST,
            "http-port": http_,
            "metrics-address": _HOST,
            "metrics-port": metrics,
            "allow-gpu-metrics": "false",
            "exit-timeout-secs": _EXIT_TIMEOUT_S,
        }
        # TorchScript tells Triton nothing that a configuration lacks, and asking for it doubles the time to start.
        flags = ["--disable-auto-complete-config"]
        flags += [f"--backend-config=python,{option}" for option in self.regions.options()]
        if self._explicit:
            flags += ["--model-control-mode=explicit", "--load-model=*"]
        if self._key is not None:
            flags += restrictions(self._key)
        if self._otlp:
            # Rate 0: only calls that carry a context.
            traced = (f"opentelemetry,url={self._otlp}/v1/traces", "mode=opentelemetry", "level=TIMESTAMPS", "rate=0")
            flags += [f"--trace-config={part}" for part in traced]
        return [str(server_binary(self.directory).resolve()), *flags, *(f"--{k}={v}" for k, v in options.items())]

    def _environment(self) -> dict[str, str]:
        # The stub takes its packages from the `python3` that it finds first on PATH: it must be this one, with torch.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        return {
            **SPIN,
            **os.environ,
            **self._malloc,
            "PATH": path,
            "LD_LIBRARY_PATH": library_path(self.directory),
            "VIDTR_TORCHSCRIPT_OPERATORS": ",".join(self._operators),
        }

    def _ready(self) -> bool:
        # The metrics port opens last, a moment after the server calls itself ready.
        _, http, metrics = self._ports
        return answers(_HOST, http, "/v2/health/ready") and answers(_HOST, metrics, "/metrics")

    def __enter__(self) -> LocalTriton:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
