"""GET /v1/jobs/{id}/result: an answer as a file that other programs open."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request, Response

from service.api.app_state import State
from service.api.auth import CurrentPrincipal
from service.api.header_lists import elements, joined
from service.api.problems import responses
from service.api.query_options import each_once
from service.api.routes.jobs_route import JobId
from service.api.schemas import EXPORTED
from service.contracts import JobStatus
from service.errors import InternalError, ResultNotReady, error_from_dict
from service.exports.formats import FORMATS, Format, named
from service.exports.spans import Kind, NamedResult

router = APIRouter(tags=["jobs"], dependencies=[Depends(each_once)])

RETRY_AFTER_S = 1.0


@router.get(
    "/v1/jobs/{job_id}/result",
    operation_id="export_result",
    summary="A job's answer in a format of other programs",
    response_class=Response,
    responses={
        200: EXPORTED,
        **responses(
            "unknown_job",
            "result_expired",
            "job_deleted",
            "result_not_ready",
            "nothing_to_export",
            "unauthorized",
            "invalid_option",
            "backend_failed",
            "queue_unavailable",
            "internal_error",
            "deadline_exceeded",
        ),
    },
)
async def export_result(
    request: Request,
    job_id: JobId,
    state: State,
    caller: CurrentPrincipal,
    format_name: Annotated[
        str | None,
        Query(
            alias="format",
            description="the format; what `Accept` prefers when absent, JSON where it names none",
            json_schema_extra={"enum": [*FORMATS]},
        ),
    ] = None,
    of: Annotated[Kind, Query(description="whether a format with one list holds the events or the shots")] = "events",
    name: Annotated[
        str | None, Query(max_length=255, description="how the file calls the video; the job's id when absent")
    ] = None,
) -> Response:
    """The result of a succeeded job as a file. A job that failed answers with its own error."""
    form = accepted(joined(request.headers, "accept")) if format_name is None else named(format_name)
    store = state.stores.of(job_id)
    await store.check_owner(job_id, caller.may_read)
    status = await store.status(job_id)
    if status.result is None:
        raise _ended_otherwise(status)
    video = NamedResult(name or job_id, status.result)
    file_name = quote(f"{video.stem}.{form.extension}", safe="")
    return Response(
        form.write([video], of),
        media_type=form.media_type,
        headers={"Content-Disposition": f"attachment; filename*=UTF-8''{file_name}", "Vary": "Accept"},
    )


def accepted(accept: str | None) -> Format:
    """The format that an `Accept` header prefers of those with a media type of their own; JSON where it has none."""
    # JSON is the first of those that share its type.
    by_type = {form.media_type: form for form in reversed(FORMATS.values())}
    wishes = sorted(elements(accept), key=lambda kind: -kind.quality)
    named_ones = (by_type[kind.name] for kind in wishes if kind.quality > 0 and kind.name in by_type)
    return next(named_ones, FORMATS["json"])


def _ended_otherwise(status: JobStatus) -> Exception:
    if not status.status.is_final:
        detail = f"Job {status.id} is {status.status}: {status.clips_done} of {status.clips_total} clips are scored."
        return ResultNotReady(f"{detail} Ask again once it has succeeded.", retry_after_s=RETRY_AFTER_S)
    if status.error is None:
        return InternalError(f"Job {status.id} ended as {status.status} without a cause.")
    return error_from_dict(status.error)
