"""The decode pool of an API process: how strictly its decodes are sandboxed, and the metrics and logs of that."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import replace

import structlog

from service.api.auth import AuthConfig
from service.settings import Settings
from service.telemetry import metrics
from service.video.config import DecodeConfig
from service.video.pool import DecodePool
from service.video.sandbox import SANDBOX_LAYERS

log = structlog.get_logger()


def decode_config(settings: Settings) -> DecodeConfig:
    """How uploads are decoded: in a sandbox where strangers can reach the API, unless the settings say otherwise."""
    config = settings.subset(DecodeConfig)
    if config.decode_sandbox is None and not settings.subset(AuthConfig).loopback:
        return replace(config, decode_sandbox="require")
    return config


async def start_decoding(settings: Settings, stack: contextlib.AsyncExitStack) -> DecodePool:
    """Start the sandboxed decode processes; `stack` ends them. Raises SandboxMissing for a missing layer."""
    config = decode_config(settings)
    pool = DecodePool(config, told=_show)
    stack.push_async_callback(pool.close)
    await pool.start()
    metrics.DECODE_PROCESSES.set(pool.processes)
    log.info("decode_sandbox", active=list(pool.sandbox), required=config.decode_sandbox == "require")
    return pool


def _show(active: Collection[str]) -> None:
    for layer in SANDBOX_LAYERS:
        metrics.SANDBOX_LAYER.labels(layer).set(layer in active)
