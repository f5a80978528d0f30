"""The jobs of a caller: list, look up, follow, delete."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.sse import EventSourceResponse
from pydantic import BeforeValidator, Field

from service.api.app_state import State
from service.api.auth import CurrentPrincipal
from service.api.job_event_stream import STREAM_HEADERS
from service.api.last_event_id import LastEventId, last_event
from service.api.openapi_examples import FOLLOWED, JOB_PAGES, JOBS, json_content
from service.api.plain_numbers import plain_number
from service.api.problems import responses
from service.api.query_options import each_once
from service.api.schemas import STREAMED_EVENT, shaped
from service.contracts import JobState, JobStatus, told
from service.errors import Unauthorized
from service.queue.job_list import PLACE
from service.telemetry import metrics
from service.wire import JobPage

router = APIRouter(tags=["jobs"], dependencies=[Depends(each_once)])

# Within the check of its form, or the document would not have the bounds.
PageSize = Annotated[Annotated[int, Field(ge=1, le=100)], BeforeValidator(plain_number)]
JobId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="id of the job, as `Location` gave it")]

_COMMON = ("unauthorized", "invalid_option", "queue_unavailable", "internal_error")

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events as they happen; the stream ends with the job",
        "content": {"text/event-stream": {"schema": STREAMED_EVENT, **FOLLOWED}},
    },
    204: {"description": "`Last-Event-ID` is the job's last event: nothing more comes"},
}


@router.get(
    "/v1/jobs",
    operation_id="list_jobs",
    summary="The caller's jobs, newest first",
    responses={200: json_content(JOB_PAGES), **responses(*_COMMON)},
)
async def list_jobs(
    state: State,
    caller: CurrentPrincipal,
    cursor: Annotated[
        str | None, Query(description="`next_cursor` of the page before", json_schema_extra=shaped(PLACE))
    ] = None,
    limit: Annotated[PageSize, Query(description="jobs on a page")] = 20,
) -> JobPage:
    """Jobs that the caller's API key has sent, without their results; deleted ones are left out."""
    if not caller.owner and not state.auth.lists_anonymous_jobs:
        raise Unauthorized("Listing jobs needs an API key: jobs sent without one have no owner.")
    page = await state.job_list.page(caller.tenant, cursor, limit)
    return JobPage(jobs=page.jobs, next_cursor=page.next_cursor)


@router.get(
    "/v1/jobs/{job_id}",
    operation_id="get_job",
    summary="How a job stands, and its result",
    response_model=JobStatus,
    responses={200: json_content(JOBS), **responses("unknown_job", "result_expired", "job_deleted", *_COMMON)},
)
async def get_job(job_id: JobId, state: State, caller: CurrentPrincipal) -> Response:
    """State and progress of a job; `result` once it succeeded, `error` once it failed or expired."""
    store = state.stores.of(job_id)
    await store.check_owner(job_id, caller.may_read)
    status = await store.status(job_id)
    if status.result is not None:
        state.listed_keys.compare(status.result.signature)
    return Response(told(status, status.result), media_type="application/json")


@router.get(
    "/v1/jobs/{job_id}/events",
    operation_id="follow_job",
    summary="Follow a job",
    response_class=Response,
    responses={**_STREAM, **responses("unknown_job", "result_expired", "job_deleted", "queue_full", *_COMMON)},
)
async def follow_job(
    job_id: JobId,
    state: State,
    caller: CurrentPrincipal,
    last_event_id: LastEventId = None,
) -> Response:
    """Server-sent events: every state of the job so far, or after `Last-Event-ID`, and then each as it comes."""
    last_event_id = last_event(last_event_id)
    store = state.stores.of(job_id)
    await store.check_owner(job_id, caller.may_read)
    job = await store.status(job_id)
    if last_event_id is not None:
        last_event_id = await state.event_stream.resumed_after(job_id, last_event_id)
        if last_event_id is None:
            return Response(status_code=204)
    return EventSourceResponse(state.event_stream.follow(job, last_event_id, caller.identity), headers=STREAM_HEADERS)


@router.delete(
    "/v1/jobs/{job_id}",
    operation_id="delete_job",
    summary="Cancel a job and erase what is kept of it",
    status_code=204,
    responses=responses("unknown_job", *_COMMON),
)
async def delete_job(job_id: JobId, state: State, caller: CurrentPrincipal) -> None:
    """Drop what is left of the job's work and erase its result, clips and Idempotency-Key; repeating it is harmless."""
    store = state.stores.of(job_id)
    await store.check_owner(job_id, caller.may_erase)
    await state.cache.forget(job_id)
    if await store.cancel(job_id):
        metrics.JOBS.labels(JobState.CANCELLED).inc()
