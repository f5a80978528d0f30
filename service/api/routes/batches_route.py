"""Batches: many videos by reference, one line of a manifest each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BeforeValidator, Field
from python_multipart.multipart import parse_options_header

from service.api.app_state import ApiState, State
from service.api.auth import CurrentPrincipal
from service.api.batches.batches import Manifest
from service.api.openapi_batches import BATCH_PAGES, BATCHES, MANIFEST_BODY, RESULT_LINES
from service.api.openapi_examples import json_content
from service.api.plain_numbers import plain_number
from service.api.problems import responses
from service.api.query_options import each_once
from service.api.request_headers import KEY, checked_key
from service.api.schemas import BatchOptions, ClassifyOptions, shaped
from service.api.upload import check_codings, chunks
from service.errors import Unauthorized, UploadTooLarge
from service.queue.batch_facts import BatchFacts
from service.queue.batch_store import PLACE
from service.wire import BatchCounts, BatchDestination, BatchLinks, BatchPage, BatchStatus

router = APIRouter(tags=["batches"], dependencies=[Depends(each_once)])

RESULTS_TYPE = "application/jsonl"
PageSize = Annotated[Annotated[int, Field(ge=1, le=100)], BeforeValidator(plain_number)]
After = Annotated[Annotated[int, Field(ge=0)], BeforeValidator(plain_number)]
BatchId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="id of the batch, as `Location` gave it")]

_COMMON = ("unauthorized", "invalid_option", "queue_unavailable", "internal_error")
_LINK = {"description": '`rel="next"`: path of the next page; absent after the last', "schema": {"type": "string"}}


@router.post(
    "/v1/batches",
    operation_id="create_batch",
    summary="Classify many videos by reference",
    status_code=202,
    response_model_exclude_none=True,
    responses={
        202: {"description": "Accepted: ask for the batch at `Location`", **json_content(BATCHES)},
        **responses(
            "url_too_long",
            "malformed_request",
            "invalid_manifest",
            "unsupported_media_type",
            "upload_too_large",
            "upload_timeout",
            "idempotency_key_reused",
            "too_many_batches",
            "draining",
            *_COMMON,
        ),
    },
    openapi_extra={"requestBody": MANIFEST_BODY},
)
async def create_batch(
    request: Request,
    response: Response,
    options: Annotated[BatchOptions, Query()],
    state: State,
    caller: CurrentPrincipal,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="any text of up to 255 characters: repeating a request with it is safe",
            json_schema_extra=shaped(KEY),
        ),
    ] = None,
) -> BatchStatus:
    """Send a manifest: each line names a video, which becomes a job. One bad line refuses the whole manifest.

    Options of the query hold for each line that has none of its own.
    """
    key = checked_key(idempotency_key)
    check_codings(request.headers)
    kind, _ = parse_options_header(request.headers.get("content-type"))
    body = await _body(request, state)
    own = {"destination", "batch_webhook"}
    of_lines = ClassifyOptions.model_validate(options.model_dump(exclude_unset=True, exclude=own))
    manifest = Manifest(kind.decode("latin-1"), body, of_lines, options.destination, options.batch_webhook)
    facts = await state.batches.create(manifest, caller, key, request.state.request_id)
    status = _status(request, facts, state)
    response.headers["Location"] = status.links.self
    return status


@router.get(
    "/v1/batches",
    operation_id="list_batches",
    summary="The caller's batches, newest first",
    responses={200: json_content(BATCH_PAGES), **responses(*_COMMON)},
)
async def list_batches(
    request: Request,
    state: State,
    caller: CurrentPrincipal,
    cursor: Annotated[
        str | None, Query(description="`next_cursor` of the page before", json_schema_extra=shaped(PLACE))
    ] = None,
    limit: Annotated[PageSize, Query(description="batches on a page")] = 20,
) -> BatchPage:
    """Batches that the caller's API key has sent, until they expire."""
    if not caller.owner and not state.auth.lists_anonymous_jobs:
        raise Unauthorized("Listing batches needs an API key: batches sent without one have no owner.")
    found, more = await state.batches.home(caller.tenant).page(caller.tenant, cursor, limit)
    return BatchPage(batches=[_status(request, facts, state) for facts in found], next_cursor=more)


@router.get(
    "/v1/batches/{batch_id}",
    operation_id="get_batch",
    summary="How a batch stands",
    response_model_exclude_none=True,
    responses={200: json_content(BATCHES), **responses("unknown_batch", *_COMMON)},
)
async def get_batch(batch_id: BatchId, request: Request, state: State, caller: CurrentPrincipal) -> BatchStatus:
    """How many lines wait, run and have ended."""
    return _status(request, await state.batches.find(batch_id, caller.may_read), state)


@router.get(
    "/v1/batches/{batch_id}/results",
    operation_id="get_batch_results",
    summary="What the lines of a batch came to",
    response_class=Response,
    responses={
        200: {
            "description": "A line of JSON for each, in the order in which they ended",
            "headers": {"Link": _LINK},
            "content": {RESULTS_TYPE: {"schema": {"type": "string"}, **RESULT_LINES}},
        },
        **responses("unknown_batch", *_COMMON),
    },
)
async def get_batch_results(
    batch_id: BatchId,
    request: Request,
    state: State,
    caller: CurrentPrincipal,
    after: Annotated[After, Query(description="`seq` of the last line that you have")] = 0,
    limit: Annotated[PageSize, Query(description="lines on a page")] = 100,
) -> Response:
    """Lines that have ended, while the batch runs too: a page with fewer than `limit` lines may get more later."""
    facts = await state.batches.find(batch_id, caller.may_read)
    ended = facts.record.total - facts.left
    last = min(ended, after + limit) if after < ended else after
    headers = {}
    if last < ended or not facts.state.is_final or facts.left:
        path = f"{_path(request, batch_id)}/results?after={last}&limit={limit}"
        headers["Link"] = f'<{path}>; rel="next"'
    lines = state.batches.results.lines(state.batches.of(batch_id), batch_id, after, max(0, last - after))
    # What cannot be read at all is an error, and no answer that breaks off.
    first = await anext(lines, b"")
    return StreamingResponse(_joined(first, lines), 200, headers, media_type=RESULTS_TYPE)


@router.delete(
    "/v1/batches/{batch_id}",
    operation_id="cancel_batch",
    summary="Cancel what has not ended of a batch",
    response_model_exclude_none=True,
    responses={200: json_content(BATCHES), **responses("unknown_batch", *_COMMON)},
)
async def cancel_batch(batch_id: BatchId, request: Request, state: State, caller: CurrentPrincipal) -> BatchStatus:
    """Lines that have ended keep their results, until the batch expires; repeating it is harmless."""
    facts = await state.batches.find(batch_id, caller.may_erase)
    return _status(request, await state.batches.cancel(facts), state)


async def _body(request: Request, state: ApiState) -> bytes:
    limit, body = state.batches.limits.max_manifest_bytes, bytearray()
    async for chunk in chunks(request, state.upload_times, state.uploads_end):
        body += chunk
        if len(body) > limit:
            detail = f"The manifest has more than {limit} bytes (`max_manifest_bytes`). Divide it into several."
            raise UploadTooLarge(detail, limit=limit, actual=len(body))
    return bytes(body)


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for lines in rest:
        yield lines


def _path(request: Request, batch_id: str) -> str:
    return f"{request.scope.get('root_path', '')}/v1/batches/{batch_id}"


def _destination(facts: BatchFacts) -> BatchDestination | None:
    url = facts.record.destination
    if url is None:
        return None
    if facts.undelivered is not None:
        return BatchDestination(url=url, status="failed", detail=facts.undelivered)
    return BatchDestination(url=url, status="pending" if facts.delivered_at is None else "written")


def _status(request: Request, facts: BatchFacts, state: ApiState) -> BatchStatus:
    record = facts.record
    path = _path(request, record.id)
    running = min(facts.running, facts.left)
    return BatchStatus(
        id=record.id,
        status=facts.state,
        counts=BatchCounts(
            total=record.total,
            queued=facts.left - running,
            running=running,
            succeeded=facts.succeeded,
            failed=facts.failed,
            cancelled=facts.cancelled,
        ),
        created_at=facts.created_at,
        started_at=facts.started_at,
        ended_at=facts.ended_at,
        expires_at=state.batches.expires_at(facts),
        destination=_destination(facts),
        links=BatchLinks(self=path, results=f"{path}/results"),
    )
