"""The page at `/docs`: Swagger UI over the OpenAPI document, from files of the package and from nowhere else."""

from __future__ import annotations

import gzip
import mimetypes
import os
import re
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

import service
from service.api.web_ui import POLICY, headers

PATH = "/docs"
SWAGGER = Path(service.__file__).parent / "swagger"

# Swagger UI writes styles, and symbols as data, into the page, and builds markup from text, which it cleans itself.
_HEADERS = headers(
    {directive: sources for directive, sources in POLICY.items() if "trusted-types" not in directive}
    | {"style-src": "'self' 'unsafe-inline'", "img-src": "'self' data:", "media-src": "'none'"}
)
_TAKES_GZIP = re.compile(r"(?:^|[\s,])gzip(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))")


class SwaggerFiles(StaticFiles):
    """Static files with the page's headers. Compressed files are sent as they are to clients that accept them."""

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """The file of that name, or its compressed form."""
        full_path, stat_result = super().lookup_path(path)
        return (full_path, stat_result) if stat_result else super().lookup_path(f"{path}.gz")

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """The file, or 304 where the browser has it."""
        kind, compressed = mimetypes.guess_type(full_path)
        if compressed and not _TAKES_GZIP.search(Headers(scope=scope).get("accept-encoding", "")):
            response = Response(gzip.decompress(Path(full_path).read_bytes()), status_code, media_type=kind)
        else:
            response = super().file_response(full_path, stat_result, scope, status_code)
            if compressed:
                response.headers["Content-Encoding"] = compressed
        response.headers.update(_HEADERS)
        response.headers["Vary"] = "Accept-Encoding"
        return response


async def _reference() -> FileResponse:
    return FileResponse(SWAGGER / "index.html", headers=_HEADERS)


def install(app: FastAPI) -> None:
    """Serve the page and its files."""
    app.add_api_route(PATH, _reference, include_in_schema=False)
    app.mount(f"{PATH}/files", SwaggerFiles(directory=SWAGGER), name="reference")
