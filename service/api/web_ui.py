"""The page at `/` and its files, under a policy that lets them load nothing from elsewhere."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.responses import Response
from starlette.types import Scope

import service

WEB = Path(service.__file__).parent / "web"

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    # Pictures and videos of the visitor's own, which never leave the browser by another way than the upload.
    "img-src": "'self' blob:",
    "media-src": "blob:",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}


def headers(policy: Mapping[str, str]) -> dict[str, str]:
    """What a page is sent with: a policy of what it may load, and that it is asked for anew each time."""
    return {
        "Content-Security-Policy": "; ".join(f"{directive} {sources}" for directive, sources in policy.items()),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        # Files have no version in their names: after an update old and new ones would mix.
        "Cache-Control": "no-cache",
    }


HEADERS = headers(POLICY) | {"Permissions-Policy": "camera=(self), display-capture=(self), microphone=()"}


class PageFiles(StaticFiles):
    """Static files that carry the page's headers."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """The file, or 304 where the browser has it."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(HEADERS)
        return response


async def _page() -> FileResponse:
    return FileResponse(WEB / "index.html", headers=HEADERS)


def install(app: FastAPI) -> None:
    """Serve the page and its files."""
    app.add_api_route("/", _page, include_in_schema=False)
    app.mount("/static", PageFiles(directory=WEB), name="static")
