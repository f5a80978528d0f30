"""`vidtr doctor`: whether this machine has what the settings need, and what to do where it has not."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from service.cli.doctor_findings import Finding
from service.cli.doctor_partitions import partitions
from service.cli.doctor_redis import redis
from service.settings import Settings

if TYPE_CHECKING:
    from service.video.config import DecodeConfig

TIMEOUT_S = 5.0
FAILED = 1
GPU_DEVICE = Path("/dev/nvidiactl")
SANDBOX_ADVICE = (
    "allow user namespaces (kernel.unprivileged_userns_clone, or the container's seccomp profile) and take a kernel"
    " with Landlock (5.13)"
)


def doctor() -> None:
    """Check Redis, engine, model repository, decode sandbox and disk. Exit status: 0 all work, 1 one does not."""
    settings = Settings()
    out = Console()
    marks = {"ok": "[green]ok[/green]     ", "warning": "[yellow]warning[/yellow]", "failed": "[red]failed[/red] "}
    failed = False
    for check in (redis, partitions, engine, models, sandbox, disk):
        for found in check(settings):
            failed = failed or found.state == "failed"
            out.print(f"{marks[found.state]}  {found.name}: {found.detail}", highlight=False, soft_wrap=True)
            if found.advice:
                out.print(f"         → {found.advice}", highlight=False, soft_wrap=True)
    raise typer.Exit(FAILED if failed else 0)


def engine(settings: Settings) -> Iterator[Finding]:
    """What scores clips."""
    if settings.engine == "torchscript":
        if importlib.util.find_spec("torch") is None:
            advice = "pip install 'vidtr-serve[model]', or set VIDTR_ENGINE=triton"
            yield Finding("engine", "failed", "torchscript needs torch, which is not installed", advice)
        else:
            yield Finding("engine", "ok", "torchscript, in the worker process")
    elif "triton_url" in settings.model_fields_set:
        for url in settings.triton_urls:
            yield asyncio.run(_running_triton(url, settings.triton_key, settings.default_model, GPU_DEVICE.exists()))
    else:
        from service.local.triton_install import is_installed

        if is_installed(settings.triton_dir):
            yield Finding("triton", "ok", f"`vidtr up` starts the one in {settings.triton_dir}")
        else:
            advice = "run `vidtr install-triton`, or set VIDTR_TRITON_URL to one that runs"
            yield Finding("triton", "failed", f"none is installed in {settings.triton_dir}", advice)


async def _running_triton(url: str, key: str | None, model: str, has_gpu: bool) -> Finding:
    from service.errors import VidtrError
    from service.inference.triton_control import ModelControl

    name = f"triton {url}"
    try:
        control = ModelControl(url, TIMEOUT_S, key)
        states = [state for state in await control.states() if state.model == model]
        ready = any(state.state == "READY" for state in states)
        on_gpu = ready and await control.runs_on_gpu(model)
    except VidtrError as error:
        return Finding(name, "failed", error.detail, "is it started, and is VIDTR_TRITON_URL its gRPC port (8001)?")
    if ready and not on_gpu and has_gpu:
        advice = f"run `vidtr models configure {model} --device gpu` and reload it: it then never falls back to the CPU"
        return Finding(name, "warning", f"{model} runs on the CPU, though this machine has a GPU", advice)
    if ready:
        return Finding(name, "ok", f"{model} is ready, on {'the GPU' if on_gpu else 'the CPU'}")
    reasons = "; ".join(f"version {state.version}: {state.state} {state.reason}".strip() for state in states)
    advice = f"run `vidtr models load {model}`, and read Triton's log where that fails"
    return Finding(name, "failed", f"{model} is not ready{': ' + reasons if reasons else ''}", advice)


def models(settings: Settings) -> Iterator[Finding]:
    """The model repository, every file against the checksum of its configuration."""
    from service.inference.registry import scan_repository
    from service.model_config import ModelConfigError

    root = settings.model_repository
    try:
        files = scan_repository(root)
    except NotADirectoryError as error:
        advice = "call from the project's folder, or set VIDTR_MODEL_REPOSITORY"
        yield Finding("model repository", "failed", str(error), advice)
        return
    except (ModelConfigError, OSError) as error:
        advice = "write the model again with `vidtr export` or `vidtr import`, or take its folder out"
        yield Finding("model repository", "failed", str(error), advice)
        return
    names = sorted({file.spec.name for file in files})
    yield Finding("model repository", "ok", f"{root}: {', '.join(names) or 'empty'}")
    default = settings.default_model
    if default not in names:
        advice = "set VIDTR_DEFAULT_MODEL to one that is there, or export one under this name"
        yield Finding("default model", "failed", f"{default} is not in {root}", advice)
    elif not all(file.spec.trained for file in files if file.spec.name == default):
        yield Finding("default model", "warning", f"{default} has random weights", "export a trained one")


def sandbox(settings: Settings) -> Iterator[Finding]:
    """Starts the decode processes and lists the layers of their sandbox."""
    from service.api.decoding import decode_config
    from service.errors import SandboxMissing, VidtrError
    from service.video.sandbox import SANDBOX_LAYERS

    try:
        active = asyncio.run(_layers(decode_config(settings)))
    except SandboxMissing as error:
        advice = f"{SANDBOX_ADVICE}, or, for videos that you trust, set VIDTR_DECODE_SANDBOX=best_effort"
        yield Finding("decode sandbox", "failed", error.detail, advice)
        return
    except (VidtrError, OSError) as error:
        yield Finding("decode sandbox", "failed", str(error), "the messages above say why the processes end")
        return
    missing = [layer for layer in SANDBOX_LAYERS if layer not in active]
    if not missing:
        yield Finding("decode sandbox", "ok", ", ".join(active))
    elif sys.platform != "linux":
        yield Finding("decode sandbox", "warning", "limits only", "decode videos of strangers on Linux")
    else:
        detail = f"Active: {', '.join(active)}. This machine does not offer: {', '.join(missing)}."
        yield Finding(
            "decode sandbox", "warning", detail, f"{SANDBOX_ADVICE}; until then decode only videos that you trust"
        )


async def _layers(config: DecodeConfig) -> tuple[str, ...]:
    from service.video.pool import DecodePool

    pool = DecodePool(config)
    try:
        await pool.start()
        return pool.sandbox
    finally:
        await pool.close()


def disk(settings: Settings) -> Iterator[Finding]:
    """Where uploads are spooled."""
    folder = settings.spool_dir or Path(tempfile.gettempdir())
    present = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(present, os.W_OK):
        yield Finding("disk", "failed", f"{present} cannot be written", "set VIDTR_SPOOL_DIR to a folder that can")
        return
    free = shutil.disk_usage(present).free
    if free < settings.spool_min_free_bytes:
        detail = f"{present} has {free} bytes free; uploads must leave {settings.spool_min_free_bytes} free."
        yield Finding("disk", "failed", detail, "free some space, or set VIDTR_SPOOL_DIR")
    else:
        yield Finding("disk", "ok", f"{free / 1e9:.1f} GB are free at {present}")
