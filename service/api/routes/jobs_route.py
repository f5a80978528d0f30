"""The jobs of a caller: list, look up, follow, delete."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Response
from fastapi.sse import EventSourceResponse

from service.api.app_state import State
from service.api.auth import CurrentPrincipal
from service.api.job_event_stream import STREAM_HEADERS
from service.api.problems import responses
from service.api.schemas import STREAMED_EVENT, shaped
from service.contracts import JobState, JobStatus
from service.errors import InvalidOption, Unauthorized
from service.queue.events import EVENT_ID
from service.queue.job_list import PLACE
from service.telemetry import metrics
from service.wire import JobPage

router = APIRouter(tags=["jobs"])

JobId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="id of the job, as `Location` gave it")]

_COMMON = ("unauthorized", "invalid_option", "queue_unavailable", "internal_error")

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events as they happen; the stream ends with the job",
        "content": {"text/event-stream": {"schema": STREAMED_EVENT}},
    },
    204: {"description": "`Last-Event-ID` is the job's last event: nothing more comes"},
}


@router.get(
    "/v1/jobs",
    operation_id="list_jobs",
    summary="The caller's jobs, newest first",
    responses=responses(*_COMMON),
)
async def list_jobs(
    state: State,
    caller: CurrentPrincipal,
    cursor: Annotated[
        str | None, Query(description="`next_cursor` of the page before", json_schema_extra=shaped(PLACE))
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="jobs on a page")] = 20,
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
    response_model_exclude_none=True,
    responses=responses("unknown_job", "result_expired", "job_deleted", *_COMMON),
)
async def get_job(job_id: JobId, state: State, caller: CurrentPrincipal) -> JobStatus:
    """State and progress of a job; `result` once it succeeded, `error` once it failed or expired."""
    store = state.stores.of(job_id)
    await store.check_owner(job_id, caller.may_read)
    return await store.status(job_id)


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
    last_event_id: Annotated[
        str | None,
        Header(
            description="id of the last event received; those after it are sent", json_schema_extra=shaped(EVENT_ID)
        ),
    ] = None,
) -> Response:
    """Server-sent events: every state of the job so far, or after `Last-Event-ID`, and then each as it comes."""
    # An empty header says no more than none at all.
    last_event_id = last_event_id or None
    if last_event_id is not None and not EVENT_ID.fullmatch(last_event_id):
        raise InvalidOption(
            "Last-Event-ID is not the id of an event. Send the id of the last event received, or none.",
            actual=last_event_id,
        )
    store = state.stores.of(job_id)
    await store.check_owner(job_id, caller.may_read)
    job = await store.status(job_id)
    if last_event_id is not None and await state.event_stream.ended(job_id, last_event_id):
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
