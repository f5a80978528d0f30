"""Uploads that arrive in pieces, by the protocol tus 1.0."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response

from service.api import tus
from service.api.app_state import State
from service.api.auth import CurrentPrincipal
from service.api.openapi_examples import UPLOADS, json_content
from service.api.problems import responses
from service.api.resumable_store import UPLOAD_ID, Arrived
from service.errors import MethodNotAllowed
from service.wire import UploadStatus

router = APIRouter(tags=["uploads"])

UploadId = Annotated[
    str, Path(pattern=f"^{UPLOAD_ID.pattern}$", description="id of the upload: the last part of its `Location`")
]

_COMMON = ("malformed_request", "unauthorized", "tus_version", "invalid_option", "internal_error")
_PIECE = (
    "upload_timeout",
    "upload_too_large",
    "unsupported_media_type",
    "upload_locked",
    "checksum_mismatch",
    "queue_full",
    "disk_full",
    "draining",
)


def _header(description: str, **schema: Any) -> dict[str, Any]:
    return {"description": description, "schema": schema or {"type": "string"}}


_OFFSET = _header("bytes that have arrived", type="integer")
_EXPIRES = _header("when the upload is erased, unless more of it arrives")
_STATE = {"Upload-Offset": _OFFSET, "Upload-Expires": _EXPIRES}


def _parameter(name: str, description: str, *, required: bool = True, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": required, **_header(description, **schema)}


_RESUMABLE = _parameter("Tus-Resumable", "version of the protocol", type="string", enum=[tus.VERSION])
_BASE64 = "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_CHECKSUM = _parameter(
    "Upload-Checksum",
    "`sha1` or `sha256`, a space, and the digest in Base64",
    required=False,
    type="string",
    pattern="^(sha1 [A-Za-z0-9+/]{27}=|sha256 [A-Za-z0-9+/]{43}=)$",
    examples=["sha256 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="],
)
_OFFSET_HERE = _parameter(
    "Upload-Offset", "where the piece begins: what has arrived by now", type="integer", minimum=0, maximum=tus.LARGEST
)
_BODY = {"required": True, "content": {tus.BODY_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
_APPENDED: dict[int | str, dict[str, Any]] = {
    204: {"description": "It has arrived", "headers": _STATE},
    **responses(*_COMMON, *_PIECE, "unknown_upload", "upload_offset_mismatch"),
}


async def _speaks_tus(request: Request) -> None:
    request.state.headers["Tus-Resumable"] = tus.VERSION
    # A client that only asks how an upload stands needs no protocol for that.
    if request.method not in ("OPTIONS", "GET") or "tus-resumable" in request.headers:
        request.state.headers["Tus-Version"] = tus.VERSION
        tus.check_version(request.headers)
        del request.state.headers["Tus-Version"]


_TUS = [Depends(_speaks_tus)]


@router.options(
    "/v1/uploads",
    operation_id="upload_capabilities",
    summary="What the server accepts in pieces",
    status_code=204,
    dependencies=_TUS,
)
async def capabilities(state: State) -> Response:
    """The protocol's version and extensions, and the largest upload."""
    return Response(status_code=204, headers=tus.capabilities(state.max_resumable_bytes))


@router.post(
    "/v1/uploads",
    operation_id="create_upload",
    summary="Begin an upload that arrives in pieces",
    status_code=201,
    response_class=Response,
    dependencies=_TUS,
    responses={
        201: {
            "description": "Begun: send the pieces to `Location`",
            "headers": {"Location": _header("path of the upload"), **_STATE},
        },
        **responses(*_COMMON, *_PIECE, "too_many_uploads", "quota_exceeded"),
    },
    openapi_extra={
        "parameters": [
            _RESUMABLE,
            _parameter(
                "Upload-Length", "bytes that the upload will have", type="integer", minimum=0, maximum=tus.LARGEST
            ),
            _parameter(
                "Upload-Metadata",
                "pairs of a name and a value in Base64; `sha256` is compared once all has arrived",
                required=False,
                type="string",
                pattern=f"^[!-+.-~-]+ {_BASE64}(?:,[!-+.-~-]+ {_BASE64})*$",
            ),
        ],
        "requestBody": {**_BODY, "required": False},
    },
)
async def create_upload(request: Request, state: State, caller: CurrentPrincipal) -> Response:
    """Announce an upload, with or without its first piece. What expires or is deleted is erased."""
    await state.auth.check(caller)
    arrived = await state.resumable.create(request, caller)
    location = f"{request.scope.get('root_path', '')}/v1/uploads/{arrived.upload.id}"
    return Response(status_code=201, headers={"Location": location, **tus.state_headers(arrived)})


@router.get(
    "/v1/uploads/{upload_id}",
    operation_id="get_upload",
    summary="How much of an upload has arrived",
    dependencies=_TUS,
    responses={
        200: {
            "description": "How it stands",
            **json_content(UPLOADS),
            "headers": {**_STATE, "Upload-Length": _header("bytes that the upload will have", type="integer")},
        },
        **responses(*_COMMON, "unknown_upload"),
    },
)
async def get_upload(upload_id: UploadId, state: State, caller: CurrentPrincipal, response: Response) -> UploadStatus:
    """Where to go on after a broken connection. A HEAD, as the protocol has it, gets the headers alone."""
    arrived = await state.resumable.find(upload_id, caller)
    response.headers.update(_standing(arrived))
    return UploadStatus(
        id=arrived.upload.id, length=arrived.upload.length, offset=arrived.offset, expires_at=arrived.expires_at
    )


@router.patch(
    "/v1/uploads/{upload_id}",
    operation_id="append_to_upload",
    summary="Send a piece of an upload",
    status_code=204,
    response_class=Response,
    dependencies=_TUS,
    responses=_APPENDED,
    openapi_extra={"parameters": [_RESUMABLE, _OFFSET_HERE, _CHECKSUM], "requestBody": _BODY},
)
async def append_to_upload(request: Request, upload_id: UploadId, state: State, caller: CurrentPrincipal) -> Response:
    """Append to an upload. Of a piece that breaks off, what arrived counts, unless the piece has a checksum."""
    return _appended(await state.resumable.append(request, upload_id, caller))


@router.delete(
    "/v1/uploads/{upload_id}",
    operation_id="delete_upload",
    summary="Erase an upload",
    status_code=204,
    response_class=Response,
    dependencies=_TUS,
    responses=responses(*_COMMON, "unknown_upload"),
    openapi_extra={"parameters": [_RESUMABLE]},
)
async def delete_upload(upload_id: UploadId, state: State, caller: CurrentPrincipal) -> Response:
    """Erase what has arrived. Jobs that were made of it go on."""
    await state.resumable.remove(upload_id, caller)
    return Response(status_code=204)


@router.post(
    "/v1/uploads/{upload_id}",
    operation_id="append_to_upload_by_post",
    summary="Send a piece where PATCH does not pass",
    status_code=204,
    response_class=Response,
    dependencies=_TUS,
    responses={**_APPENDED, **responses("method_not_allowed")},
    openapi_extra={
        "parameters": [
            _RESUMABLE,
            _parameter("X-HTTP-Method-Override", "the method that is meant", const="PATCH"),
            _OFFSET_HERE,
            _CHECKSUM,
        ],
        "requestBody": _BODY,
    },
)
async def override(request: Request, upload_id: UploadId, state: State, caller: CurrentPrincipal) -> Response:
    """PATCH, as `X-HTTP-Method-Override` says, where a proxy or a library knows POST alone."""
    method = request.headers.get("x-http-method-override", "")
    if method != "PATCH":
        raise MethodNotAllowed(
            f"POST at an upload needs X-HTTP-Method-Override: PATCH; it is {method!r}.", actual=method
        )
    return _appended(await state.resumable.append(request, upload_id, caller))


def _appended(arrived: Arrived) -> Response:
    return Response(status_code=204, headers=tus.state_headers(arrived))


def _standing(arrived: Arrived) -> dict[str, str]:
    headers = {"Cache-Control": "no-store", "Upload-Length": str(arrived.upload.length), **tus.state_headers(arrived)}
    if arrived.upload.metadata:
        headers["Upload-Metadata"] = arrived.upload.metadata
    return headers
