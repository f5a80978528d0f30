"""Health and metrics: for orchestrators and Prometheus, never behind authentication."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from service.api.app_state import State
from service.api.model_choice import check_breakers
from service.api.openapi_examples import NOT_READY, READY, json_content
from service.api.schemas import Health
from service.errors import BackendUnavailable, QueueUnavailable
from service.queue.durability import Durability
from service.queue.partitions import Partition, unheard
from service.queue.write_probe import check_writable
from service.telemetry import metrics

Check = Literal["redis", "durability", "model", "backend", "process", "sandbox"]
SHARED: set[Check] = {"redis", "durability", "model", "backend"}

router = APIRouter(tags=["operations"])
# Apart, because a deployment with an internal metrics port leaves it out of the public one.
metrics_router = APIRouter(tags=["operations"])


@router.get("/health/live", operation_id="live", summary="Whether the process runs")
async def live() -> Health:
    """Always 200 while the process can answer: a full queue or a dead Redis is no reason to restart it."""
    return Health(status="ok")


@router.get(
    "/health/ready",
    operation_id="ready",
    summary="Whether uploads can be classified",
    responses={
        200: json_content(READY),
        503: {"description": "Not now; `checks` says why", "model": Health, **json_content(NOT_READY)},
    },
)
async def ready(
    state: State,
    response: Response,
    check: Annotated[
        list[Check], Query(description="What has to be well; the others are only reported. Default: all.")
    ] = [],  # noqa: B006 - FastAPI copies it
) -> Health:
    """200 when Redis takes writes and keeps jobs as `redis_durability` requires, a worker serves the default model, its
    engine answers, the process is not stopping and decodes are sandboxed as `decode_sandbox` requires."""
    checks = await _shared(state, check)
    checks["process"] = "draining" if state.waiter.draining else "ok"
    missing = state.pool.unsafe
    checks["sandbox"] = "ok" if missing is None else f"Decode processes run without {missing}."
    sandbox = list(state.pool.sandbox)
    if any(checks[name] != "ok" for name in check or checks):
        response.status_code = 503
        return Health(status="unavailable", checks=checks, sandbox=sandbox)
    return Health(status="ok", checks=checks, sandbox=sandbox)


async def _shared(state: State, asked: list[Check]) -> dict[str, str]:
    """The checks of what all processes share. Not asked for, they are not made: a Redis that hangs would hang the probe
    of a process that has nothing to do with it."""
    if asked and not SHARED & set(asked):
        return dict.fromkeys(sorted(SHARED), "unknown")
    checks = {"redis": "ok", "durability": "ok", "model": "ok", "backend": "ok"}
    try:
        if (missing := await _usable(state)) is not None:
            checks["durability"] = f"No 202 is given: {missing}."
        specs, fleet = await state.models.live()
        served = [spec for spec in specs if spec.name == state.default_model and fleet.serves(spec)]
        if served:
            check_breakers(served[0], fleet)
        else:
            checks |= {"model": f"No worker serves {state.default_model}.", "backend": "unknown"}
    except QueueUnavailable as error:
        checks |= {"redis": error.detail, "durability": "unknown", "model": "unknown", "backend": "unknown"}
    except BackendUnavailable as error:
        checks["backend"] = error.detail
    return checks


async def _usable(state: State) -> str | None:
    """Return once one partition takes jobs: uploads go there. Else why no job would be safe; None where that may be.

    Raises QueueUnavailable where no partition takes a write.
    """
    asked = [unheard(_missing(*of)) for of in zip(state.partitions, state.durabilities, strict=True)]
    problem: QueueUnavailable | None = None
    missing: str | None = None
    for answer in asyncio.as_completed(asked):
        try:
            missing = await answer
        except QueueUnavailable as error:
            problem = error
            continue
        if missing is None:
            return None
    if missing is None and problem is not None:
        raise problem
    return missing


async def _missing(partition: Partition, durability: Durability) -> str | None:
    await check_writable(partition.redis, partition.keys)
    return await durability.unavailable_reason() if durability.required else None


@metrics_router.get("/metrics", operation_id="metrics", summary="Metrics for Prometheus", response_class=Response)
async def prometheus(state: State) -> Response:
    """Everything of the table of metrics, and the metrics of the workers that share the API's metrics directory."""
    await state.queue_sampler.sample()
    return Response(metrics.render(state.metrics_dir), media_type=metrics.CONTENT_TYPE)
