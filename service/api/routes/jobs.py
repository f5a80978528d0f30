"""GET and DELETE /v1/jobs/{id}."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from service.api.callers import CurrentCaller
from service.api.problems import responses
from service.api.state import State
from service.contracts import JobState, JobStatus
from service.telemetry import metrics

router = APIRouter(tags=["jobs"])

JobId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="id of the job, as `Location` gave it")]


@router.get(
    "/v1/jobs/{job_id}",
    operation_id="get_job",
    summary="How a job stands, and its result",
    response_model_exclude_none=True,
    responses=responses(
        "unauthorized",
        "unknown_job",
        "result_expired",
        "job_deleted",
        "invalid_option",
        "queue_unavailable",
        "internal_error",
    ),
)
async def get_job(job_id: JobId, state: State, caller: CurrentCaller) -> JobStatus:
    """State and progress of a job; `result` once it succeeded, `error` once it failed or expired."""
    await state.store.check_owner(job_id, caller.owner)
    return await state.store.status(job_id)


@router.delete(
    "/v1/jobs/{job_id}",
    operation_id="delete_job",
    summary="Cancel a job and erase what is kept of it",
    status_code=204,
    responses=responses("unauthorized", "unknown_job", "invalid_option", "queue_unavailable", "internal_error"),
)
async def delete_job(job_id: JobId, state: State, caller: CurrentCaller) -> None:
    """Drop what is left of the job's work and erase its result, clips and Idempotency-Key; repeating it is harmless."""
    await state.store.check_owner(job_id, caller.owner)
    if await state.store.cancel(job_id):
        metrics.JOBS.labels(JobState.CANCELLED).inc()
