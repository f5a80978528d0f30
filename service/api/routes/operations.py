"""Health and metrics: for orchestrators and Prometheus, never behind authentication."""

from __future__ import annotations

from fastapi import APIRouter, Response

from service.api.schemas import Health
from service.api.state import State
from service.errors import QueueUnavailable
from service.queue.connection import reported
from service.telemetry import metrics

router = APIRouter(tags=["operations"])


@router.get("/health/live", operation_id="live", summary="Whether the process runs")
async def live() -> Health:
    """Always 200 while the process can answer: a full queue or a dead Redis is no reason to restart it."""
    return Health(status="ok")


@router.get(
    "/health/ready",
    operation_id="ready",
    summary="Whether uploads can be classified",
    responses={503: {"description": "Not now; `checks` says why", "model": Health}},
)
async def ready(state: State, response: Response) -> Health:
    """200 when Redis answers, a worker serves the default model and the process is not shutting down."""
    checks = {"redis": "ok", "model": "ok", "process": "draining" if state.classifier.draining else "ok"}
    try:
        with reported():
            await state.redis.ping()
        served = {spec.name for spec in await state.directory.list()}
        if state.default_model not in served:
            checks["model"] = f"no worker serves {state.default_model}"
    except QueueUnavailable as error:
        checks["redis"] = error.detail
        checks["model"] = "unknown"
    if any(check != "ok" for check in checks.values()):
        response.status_code = 503
        return Health(status="unavailable", checks=checks)
    return Health(status="ok", checks=checks)


@router.get("/metrics", operation_id="metrics", summary="Metrics for Prometheus", response_class=Response)
async def prometheus(state: State) -> Response:
    """Counters and histograms of the api, and of the workers that share its metrics directory."""
    try:
        for name in sorted({spec.name for spec in await state.directory.list()}):
            metrics.QUEUE_CLIPS.labels(name).set(await state.store.waiting(name))
    except QueueUnavailable:
        # The other metrics are wanted most of all while Redis is away.
        metrics.QUEUE_CLIPS.clear()
    return Response(metrics.render(state.metrics_dir), media_type=metrics.CONTENT_TYPE)
