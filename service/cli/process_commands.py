"""`vidtr up`, `vidtr api`, `vidtr worker`: the whole program on one machine, and its two processes alone."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console

from service.settings import Engine, Settings

START_TIMEOUT_S = 120.0
WATCH_S = 0.5
# What a child may take beyond the grace it gives its own work.
EXIT_MARGIN_S = 5.0


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
    # SIGINT too: a program that a script starts in the background inherits it as ignored.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    try:
        with ExitStack() as stack:
            try:
                _start_and_watch(settings, stack, out)
            except KeyboardInterrupt:
                out.print("stopping…", highlight=False)
            finally:
                # From here on the servers are being stopped in order; a second signal must not cut that short.
                for number in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(number, signal.SIG_IGN)
    except LocalServerError as error:
        out.print(f"[red]error[/red] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _start_and_watch(settings: Settings, stack: ExitStack, out: Console) -> None:
    from service.local.process import LocalServerError, ServerProcess
    from service.local.redis import LocalRedis
    from service.local.triton_process import LocalTriton

    run_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vidtr-run-")))
    metrics_dir = run_dir / "metrics"
    metrics_dir.mkdir()
    changes: dict[str, object] = {"prometheus_multiproc_dir": metrics_dir}
    if "log_format" not in settings.model_fields_set:
        changes["log_format"] = "console"
    if "redis_url" not in settings.model_fields_set:
        redis = LocalRedis(settings.state_dir / "redis", persist=True, appendfsync=settings.redis_appendfsync)
        changes |= {"redis_url": stack.enter_context(redis).url, "redis_password_file": None}
    if settings.engine == "triton" and "triton_url" not in settings.model_fields_set:
        changes["triton_key"] = key = secrets.token_hex(32)
        triton = LocalTriton(
            settings.triton_dir,
            settings.model_repository,
            log=settings.state_dir / "triton.log",
            key=key,
            operators=settings.torchscript_operators,
        )
        changes["triton_url"] = stack.enter_context(triton).addresses.grpc
    settings = settings.model_copy(update=changes)
    children = []
    # Stopped in reverse: the api first, while the worker still answers the requests that wait.
    for role in ("worker", "api"):
        child = ServerProcess(
            [sys.executable, "-m", "service.cli.main", role],
            name=f"the {role}",
            log=None,
            environment=settings.child_environment(run_dir / "secrets"),
        )
        child.start()
        stack.callback(child.stop, settings.shutdown_grace_s + EXIT_MARGIN_S)
        children.append((role, child))
    address = f"http://{_reachable(settings.host)}:{settings.port}"

    def ready() -> bool:
        for role, child in children:
            if child.pid is None:
                raise LocalServerError(f"the {role} ended while starting; its messages stand above")
        return _answers(f"{address}/health/ready")

    children[-1][1].wait_until(ready, START_TIMEOUT_S)
    # Whole lines, because a terminal makes a link of an address only where it is in one piece.
    up = f"[green]vidtr is up[/green] at {address} (API documentation at {address}/docs)"
    for line in (up, f"try: curl -F file=@clip.mp4 {address}/v1/classify"):
        out.print(line, highlight=False, soft_wrap=True)
    while True:
        threading.Event().wait(WATCH_S)
        for role, child in children:
            if child.pid is None:
                raise LocalServerError(f"the {role} ended; its messages stand above")


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - compared, not bound


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - our own address
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def api() -> None:
    """Run one API process; its settings come from the environment."""
    from service.api.server import serve
    from service.queue.partition_count import check_count
    from service.queue.partitions import QueueAddress
    from service.telemetry import logs, metrics, traces

    settings = Settings()
    logs.configure(settings.log_level, settings.log_format, "api")
    asyncio.run(check_count(settings.subset(QueueAddress)))
    if settings.otlp_endpoint:
        traces.configure("api", settings.otlp_endpoint, settings.trace_sample_ratio)
    if settings.api_metrics_port:
        metrics.serve(settings.metrics_host, settings.api_metrics_port, settings.prometheus_multiproc_dir)
    serve(settings)


def worker() -> None:
    """Run one worker process; its settings come from the environment."""
    from service.inference.backend import Backend
    from service.queue.dead_letters import DeadLetterConfig
    from service.queue.job_intake import JobTtlConfig
    from service.queue.partition_count import check_count
    from service.queue.partitions import QueueAddress
    from service.telemetry import logs, metrics, traces
    from service.worker.config import WorkerConfig
    from service.worker.run import run_worker
    from service.worker.watchdog import Watchdog

    settings = Settings()
    logs.configure(settings.log_level, settings.log_format, "worker")
    asyncio.run(check_count(settings.subset(QueueAddress)))
    if settings.otlp_endpoint:
        traces.configure("worker", settings.otlp_endpoint, settings.trace_sample_ratio)
    backend: Backend
    if settings.engine == "triton":
        from service.inference.load_balancer import BalancedBackend
        from service.inference.triton_backend import TritonBackend, TritonConfig

        servers: dict[str, Backend] = {
            url: TritonBackend(
                TritonConfig(
                    url,
                    settings.triton_timeout_s,
                    traces.headers,
                    settings.triton_key,
                    settings.triton_shared_memory,
                )
            )
            for url in settings.triton_urls
        }
        backend = next(iter(servers.values())) if len(servers) == 1 else BalancedBackend(servers)
    else:
        from service.inference.threads import limit_omp_spin

        limit_omp_spin(os.environ)  # read when torch is loaded

        from service.inference.torchscript import TorchScriptBackend, TorchScriptConfig

        backend = TorchScriptBackend(
            TorchScriptConfig(settings.model_repository, settings.torch_threads, settings.torchscript_operators)
        )
    watchdog = Watchdog(settings.worker_stall_s)
    if settings.worker_metrics_port:
        metrics.serve(
            settings.metrics_host, settings.worker_metrics_port, settings.prometheus_multiproc_dir, watchdog.stalled
        )
    asyncio.run(
        run_worker(
            backend,
            settings.subset(WorkerConfig),
            settings.subset(QueueAddress),
            settings.subset(JobTtlConfig),
            settings.subset(DeadLetterConfig),
            watchdog,
        )
    )
