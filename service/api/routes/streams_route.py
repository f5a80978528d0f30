"""Live streams: begin one, send it, follow what is said of it, end it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse
from pydantic import BeforeValidator, Field

from service.api.app_state import ApiState, State
from service.api.auth import CurrentPrincipal, Principal
from service.api.job_event_stream import STREAM_HEADERS
from service.api.last_event_id import LastEventId, last_event
from service.api.openapi_examples import LIVE_EVENTS, LIVE_REQUESTS, LIVE_STREAMS, json_content
from service.api.plain_numbers import plain_number
from service.api.problems import responses
from service.api.query_options import each_once
from service.api.schemas import STREAMED_EVENT
from service.errors import UnknownStream
from service.queue.live_streams import LiveState
from service.wire import LiveStreamStatus

router = APIRouter(tags=["live streams"], dependencies=[Depends(each_once)])

StreamId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="id of the live stream")]
# Within the check of its form, or the document would not have the bounds.
Offset = Annotated[Annotated[int, Field(ge=0, le=(1 << 53) - 1)], BeforeValidator(plain_number)]

_COMMON = ("malformed_request", "unauthorized", "invalid_option", "queue_unavailable", "internal_error")
_REQUEST: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {"schema": {"$ref": "#/components/schemas/StreamRequest"}, **LIVE_REQUESTS},
    },
}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("video/mp2t", "video/mp4", "video/webm", "application/octet-stream")
        },
    }
}


@router.post(
    "/v1/streams",
    operation_id="begin_stream",
    summary="Begin a live stream",
    status_code=201,
    response_model_exclude_none=True,
    responses={
        201: {"description": "Begun: send it to `media_url`", **json_content(LIVE_STREAMS)},
        **responses(
            *_COMMON,
            "unknown_model",
            "backend_unavailable",
            "quota_exceeded",
            "queue_full",
            "draining",
            "source_not_allowed",
            "upload_timeout",
        ),
    },
    openapi_extra={"requestBody": _REQUEST},
)
async def begin_stream(
    request: Request, response: Response, state: State, caller: CurrentPrincipal
) -> LiveStreamStatus:
    """A session for a camera: it takes bytes, or fetches a `source`, and says what is seen while it comes."""
    begun = await state.live.begin(request, caller)
    status = await _status(request, state, begun)
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/v1/streams/{begun.id}"
    return status


@router.get(
    "/v1/streams/{stream_id}",
    operation_id="get_stream",
    summary="How a live stream stands",
    response_model_exclude_none=True,
    responses={200: json_content(LIVE_STREAMS), **responses(*_COMMON, "unknown_stream")},
)
async def get_stream(request: Request, stream_id: StreamId, state: State, caller: CurrentPrincipal) -> LiveStreamStatus:
    """Its counters: what has come, what was answered, what was dropped, and how late answers are."""
    return await _status(request, state, await _found(state, stream_id, caller))


@router.post(
    "/v1/streams/{stream_id}/media",
    operation_id="send_stream",
    summary="Send a live stream, whole or in pieces",
    response_model_exclude_none=True,
    responses={
        200: json_content(LIVE_STREAMS),
        **responses(
            *_COMMON,
            "unknown_stream",
            "stream_ended",
            "stream_busy",
            "stream_offset_mismatch",
            "upload_timeout",
            "unsupported_media_type",
            "queue_full",
            "too_many_crashes",
            "draining",
        ),
    },
    openapi_extra=_BODY,
)
async def send_stream(
    request: Request,
    stream_id: StreamId,
    state: State,
    caller: CurrentPrincipal,
    offset: Annotated[
        Offset | None,
        Query(description="where these bytes begin in the stream: it goes on after them, and may be sent in pieces"),
    ] = None,
    last: Annotated[bool, Query(description="whether the stream ends with this piece")] = False,
) -> LiveStreamStatus:
    """MPEG-TS, fragmented MP4 or WebM as it is made. Without `offset` one body is the whole stream.

    After a broken connection ask how many bytes have been `received` and go on there, at any replica.
    """
    await _found(state, stream_id, caller, erase=True)
    await state.live.receive(request, stream_id, offset, last=last)
    return await _status(request, state, await state.live.sessions.find(stream_id))


@router.get(
    "/v1/streams/{stream_id}/events",
    operation_id="follow_stream",
    summary="Follow a live stream",
    response_class=Response,
    responses={
        200: {
            "description": "Events `window`, `dropped` and `state`, as they happen",
            "content": {"text/event-stream": {"schema": STREAMED_EVENT, **LIVE_EVENTS}},
        },
        **responses(*_COMMON, "unknown_stream", "queue_full"),
    },
)
async def follow_stream(
    stream_id: StreamId,
    state: State,
    caller: CurrentPrincipal,
    last_event_id: LastEventId = None,
) -> Response:
    """Server-sent events: what is kept, or what came after `Last-Event-ID`, and then each event as it comes."""
    last_event_id = last_event(last_event_id)
    await _found(state, stream_id, caller)
    return EventSourceResponse(
        state.live.events.follow(stream_id, last_event_id, caller.identity), headers=STREAM_HEADERS
    )


@router.delete(
    "/v1/streams/{stream_id}",
    operation_id="end_stream",
    summary="End a live stream",
    status_code=204,
    responses=responses(*_COMMON, "unknown_stream"),
)
async def end_stream(stream_id: StreamId, state: State, caller: CurrentPrincipal) -> None:
    """It takes no more and says so in its events, which are kept for a while; repeating it is harmless."""
    await _found(state, stream_id, caller, erase=True)
    await state.live.sessions.end(stream_id)


async def _found(state: ApiState, stream_id: str, caller: Principal, *, erase: bool = False) -> LiveState:
    found = await state.live.sessions.find(stream_id)
    if not (caller.may_erase if erase else caller.may_read)(found.owner):
        raise UnknownStream(f"There is no live stream {stream_id} of this caller.")
    return found


async def _status(request: Request, state: ApiState, found: LiveState) -> LiveStreamStatus:
    path = f"{request.scope.get('root_path', '')}/v1/streams/{found.id}"
    return await state.live.status(found, path)
