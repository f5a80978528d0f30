"""`vidtr up`: the whole program on one machine, each server a process, watched until one ends or a signal comes."""

from __future__ import annotations

import secrets
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.markup import escape

from service.cli.folders import usable_folder
from service.settings import Engine, Settings

if TYPE_CHECKING:
    from service.local.process import ServerProcess

START_TIMEOUT_S = 120.0
WATCH_S = 0.5
# What a child may take beyond the grace it gives its own work.
EXIT_MARGIN_S = 5.0

Check = Callable[[], None]
"""Raises LocalServerError where a server has ended, and is not started again."""


def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    engine: Annotated[Engine | None, typer.Option(help="Score in process, or by a local Triton.")] = None,
    redis_url: Annotated[str | None, typer.Option(help="Use this Redis instead of a private one.")] = None,
    state_dir: Annotated[Path | None, typer.Option(help="Where the private Redis keeps its data.")] = None,
) -> None:
    """Start API, worker, a private Redis and the inference engine; stop all of them on Ctrl-C or SIGTERM."""
    from service.local.process import LocalServerError, free_ports

    given: dict[str, Any] = {
        "host": host,
        "port": port,
        "engine": engine,
        "redis_url": redis_url,
        "state_dir": state_dir,
    }
    settings = Settings(**{name: value for name, value in given.items() if value is not None})
    if settings.port == 0:
        settings = settings.model_copy(update={"port": free_ports(1)[0]})
    out = Console(stderr=True)
    signals = stop_signals()
    for number in signals:
        signal.signal(number, _interrupt)
    try:
        with ExitStack() as stack:
            try:
                _start_and_watch(settings, stack, out)
            except KeyboardInterrupt:
                out.print("stopping…", highlight=False)
            finally:
                # From here on the servers are being stopped in order; a second signal must not cut that short.
                for number in signals:
                    signal.signal(number, signal.SIG_IGN)
    except LocalServerError as error:
        out.print(f"[red]error[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


def stop_signals() -> tuple[signal.Signals, ...]:
    """The signals that stop the program in order.

    SIGINT even where it is ignored: a program that a script starts in the background inherits that. SIGHUP, the end of
    the terminal, only where it is not: `nohup` means it.
    """
    always = (signal.SIGTERM, signal.SIGINT)
    return always if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else (*always, signal.SIGHUP)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _start_and_watch(settings: Settings, stack: ExitStack, out: Console) -> None:
    from service.local.loopback import answers, url, why_not_free
    from service.local.process import LocalServerError

    if (why := why_not_free(settings.host, settings.port)) is not None:
        raise LocalServerError(
            f"Nothing can listen on {settings.host} port {settings.port}: {why}."
            " Stop the program that does, or choose another --port."
        )
    run_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vidtr-run-")))
    settings, checks = _start_servers(settings, stack, run_dir, out)
    worker, api = _start_processes(settings, stack, run_dir)
    checks += [worker.check, api.check]
    address = url(settings.host, settings.port)
    probed = urlsplit(address).hostname or ""

    def ready() -> bool:
        is_ready = answers(probed, settings.port, "/health/ready", timeout_s=2.0)
        for check in checks:
            check()
        return is_ready

    api.wait_until(ready, START_TIMEOUT_S)
    # Whole lines, because a terminal makes a link of an address only where it is in one piece.
    up = f"[green]vidtr is up[/green] at {escape(address)} (API documentation at {escape(address)}/docs)"
    for line in (up, f"try: curl -F file=@clip.mp4 {escape(address)}/v1/classify"):
        out.print(line, highlight=False, soft_wrap=True)
    while True:
        threading.Event().wait(WATCH_S)
        for check in checks:
            check()


def _start_servers(settings: Settings, stack: ExitStack, run_dir: Path, out: Console) -> tuple[Settings, list[Check]]:
    """Start those of Redis and Triton that are to be private; the settings by which they are found."""
    from service.local.redis import LocalRedis
    from service.local.triton_process import LocalTriton

    metrics_dir = run_dir / "metrics"
    metrics_dir.mkdir()
    checks: list[Check] = []
    changes: dict[str, object] = {"prometheus_multiproc_dir": metrics_dir}
    if "log_format" not in settings.model_fields_set:
        changes["log_format"] = "console"
    if "redis_url" not in settings.model_fields_set:
        usable_folder("state_dir", settings.state_dir)
        redis = LocalRedis(settings.state_dir / "redis", persist=True, appendfsync=settings.redis_appendfsync)
        changes |= {"redis_url": stack.enter_context(redis).url, "redis_password_file": None}
        checks.append(redis.check)
    if settings.engine == "triton" and "triton_url" not in settings.model_fields_set:
        usable_folder("state_dir", settings.state_dir)
        changes["triton_key"] = key = secrets.token_hex(32)
        triton = LocalTriton(
            settings.triton_dir,
            settings.model_repository,
            log=settings.state_dir / "triton.log",
            key=key,
            operators=settings.torchscript_operators,
        )
        changes["triton_url"] = stack.enter_context(triton).addresses.grpc

        def revive() -> None:
            if (why := triton.revive()) is not None:
                out.print(f"[yellow]started again[/yellow] {escape(why)}", highlight=False, soft_wrap=True)

        checks.append(revive)
    return settings.model_copy(update=changes), checks


def _start_processes(settings: Settings, stack: ExitStack, run_dir: Path) -> list[ServerProcess]:
    """Worker and API. Stopped in reverse: the api first, while the worker still answers the requests that wait."""
    from service.local.process import ServerProcess

    children = []
    for role in ("worker", "api"):
        child = ServerProcess(
            [sys.executable, "-m", "service.cli.main", role],
            name=f"the {role}",
            log=None,
            environment=settings.child_environment(run_dir / "secrets"),
        )
        child.start()
        stack.callback(child.stop, settings.shutdown_grace_s + EXIT_MARGIN_S)
        children.append(child)
    return children
