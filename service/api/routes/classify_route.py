"""POST /v1/classify."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.routing import APIRoute
from fastapi.sse import EventSourceResponse
from pydantic import WithJsonSchema

from service.api import openapi_examples, streaming
from service.api.app_state import State
from service.api.auth import CurrentPrincipal, sender
from service.api.header_lists import joined
from service.api.job_event_stream import STREAM_HEADERS
from service.api.openapi_examples import ACCEPTED, json_content
from service.api.problems import responses
from service.api.query_options import classify_options, each_once
from service.api.request_headers import KEY, checked_key, read_wait_policy
from service.api.schemas import STREAMED_EVENT, UPLOAD_BODY, ClassifyOptions, shaped
from service.api.submission import Submission
from service.contracts import JobResult, JobStatus, Timings
from service.errors import InternalError


class _SelfReading(APIRoute):
    """The route of `classify`, whose signature FastAPI documents and nobody else calls.

    FastAPI looks at each of its parameters anew for each request, which takes a seventh of what the API does for one.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See FastAPI."""
        return self._handle

    @staticmethod
    async def _handle(request: Request) -> Response:
        """Call `classify` with what the request says, looked at in FastAPI's order."""
        await each_once(request)
        caller = await sender(request)
        headers = request.headers
        return await classify(
            request,
            classify_options(request),
            request.app.state.api,
            caller,
            joined(headers, "prefer"),
            headers.get("x-deadline-s"),
            headers.get("idempotency-key"),
        )


router = APIRouter(tags=["classification"], dependencies=[Depends(each_once)], route_class=_SelfReading)

_ERRORS = responses(
    "malformed_request",
    "unauthorized",
    "unknown_model",
    "upload_timeout",
    "source_not_allowed",
    "source_refused",
    "source_changed",
    "source_limit",
    "source_unavailable",
    "unknown_upload",
    "upload_incomplete",
    "idempotency_in_progress",
    "idempotency_key_reused",
    "job_deleted",
    "upload_too_large",
    "url_too_long",
    "unsupported_media_type",
    "container_not_allowed",
    "codec_not_allowed",
    "invalid_option",
    "empty_upload",
    "undecodable",
    "no_video_stream",
    "video_too_short",
    "duration_limit",
    "pixel_limit",
    "packet_limit",
    "stream_limit",
    "frame_limit",
    "decode_timeout",
    "decode_cpu_limit",
    "decode_memory_limit",
    "decoder_crash",
    "too_many_clips",
    "evidence_too_large",
    "spatial_attention_too_large",
    "quota_exceeded",
    "internal_error",
    "backend_failed",
    "queue_full",
    "queue_unavailable",
    "backend_unavailable",
    "evidence_unavailable",
    "disk_full",
    "draining",
    "deadline_exceeded",
)


async def preferences(
    request: Request,
    prefer: Annotated[
        str | None, Header(description="`respond-async` for a 202 at once, `wait=N` to wait at most N seconds")
    ] = None,
) -> str | None:
    """All of `Prefer`: of a header that comes more than once the parameter is only the first."""
    return joined(request.headers, "prefer")


@router.post(
    "/v1/classify",
    operation_id="classify",
    summary="Classify a video",
    response_model=JobResult,
    response_model_exclude_none=True,
    responses={
        200: {
            "description": "The answer, or with `Accept: text/event-stream` the events that lead to it",
            "content": {
                "application/json": openapi_examples.ANSWERS,
                streaming.MEDIA_TYPE: {"schema": STREAMED_EVENT, **openapi_examples.STREAM},
            },
        },
        202: {"description": "Accepted: ask for the job at `Location`", "model": JobStatus, **json_content(ACCEPTED)},
        **_ERRORS,
    },
    openapi_extra=UPLOAD_BODY,
)
async def classify(
    request: Request,
    options: Annotated[ClassifyOptions, Query()],
    state: State,
    caller: CurrentPrincipal,
    prefer: Annotated[str | None, Depends(preferences)],
    x_deadline_s: Annotated[
        str | None,
        Header(description="seconds after which the job is given up; only shortens the server's limit"),
        WithJsonSchema({"type": "number", "exclusiveMinimum": 0}),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="any text of up to 255 characters: repeating a request with it is safe",
            json_schema_extra=shaped(KEY),
        ),
    ] = None,
) -> Response:
    """Upload a video, as a form part `file` or as the raw body, and get labels and temporal attention.

    A wait that outlasts the server's cap turns into a `202`: the job goes on and its answer is fetched from `Location`.
    An event stream lasts as long as the job.
    """
    wait_policy = read_wait_policy(prefer, x_deadline_s, state.sync_wait_s, state.job_deadline_s)
    state.webhooks.check(options.webhook)
    key = checked_key(idempotency_key)
    submission = Submission(request, options, wait_policy, caller, key)
    try:
        if streaming.asked_for(joined(request.headers, "accept")):
            until_the_end = replace(wait_policy, wait_s=wait_policy.deadline_s, applied=None)
            events = await state.streaming.start(replace(submission, wait_policy=until_the_end))
            return EventSourceResponse(events, headers=STREAM_HEADERS)
        job = await state.classifier.submit(submission)
    finally:
        request.state.headers.update(await state.auth.headers(caller))
    outcome = None if wait_policy.asynchronous else await state.waiter.wait(request, job, wait_policy)
    request.state.phases.begin("answer" if outcome is not None else "disk")
    applied = {"Preference-Applied": wait_policy.applied} if wait_policy.applied else {}
    if job.cached:
        applied["X-Cache"] = "hit"
    if outcome is None:
        await state.waiter.keep(job)
        request.state.phases.begin("answer")
        return _accepted(job.status, request.scope.get("root_path", ""), applied)
    answer, timings = outcome.answer, outcome.timings
    if answer is None or timings is None:
        raise outcome.error or InternalError(f"Job {job.status.id} ended as {outcome.state} without a cause.")
    state.listed_keys.compare(outcome.signature)
    return Response(answer, 200, {"Server-Timing": server_timing(timings), **applied}, media_type="application/json")


def _accepted(status: JobStatus, root_path: str, headers: dict[str, str]) -> Response:
    location = {"Location": f"{root_path}/v1/jobs/{status.id}"}
    return Response(
        status.model_dump_json(exclude_none=True), 202, {**location, **headers}, media_type="application/json"
    )


def server_timing(timings: Timings) -> str:
    """The `Server-Timing` header of an answer: every stage with its milliseconds."""
    return ", ".join(f"{stage};dur={value}" for stage, value in timings)
