"""`/example.webm`: a video for visitors who have none at hand, made when the first of them asks."""

from __future__ import annotations

import asyncio
import sys
from hashlib import sha256

import structlog
from fastapi import FastAPI, Request, Response

from service.errors import InternalError

log = structlog.get_logger()

PATH = "/example.webm"
# Making it takes three seconds of a core.
TIMEOUT_S = 120.0
MAX_AGE_S = 86_400
COMMAND = (sys.executable, "-m", "service.video.example_video")


class ExampleVideo:
    """Makes the video once, in a process of its own, and keeps it: half a megabyte."""

    def __init__(self, command: tuple[str, ...] = COMMAND) -> None:
        self._command = command
        self._made = b""
        self._making = asyncio.Lock()

    async def get(self) -> bytes:
        """The video. Raises InternalError where it cannot be made; the next call tries again."""
        # Visitors who come while it is made wait for the one that is being made.
        async with self._making:
            if not self._made:
                self._made = await self._make()
        return self._made

    async def _make(self) -> bytes:
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
        )
        try:
            video, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
        except TimeoutError:
            log.warning("example_video_failed", timeout_s=TIMEOUT_S)
            raise InternalError(
                f"The example video was not made in {TIMEOUT_S:g} s. Choose a video of yours."
            ) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode or not video:
            log.warning("example_video_failed", exit_status=process.returncode)
            raise InternalError("The example video could not be made. Choose a video of yours, or read the API's log.")
        return video


def install(app: FastAPI) -> None:
    """Serve the video, beside the page and as public as the page."""
    example = ExampleVideo()

    async def example_video(request: Request) -> Response:
        video = await example.get()
        tag = f'"{sha256(video).hexdigest()[:32]}"'
        headers = {"ETag": tag, "Cache-Control": f"public, max-age={MAX_AGE_S}", "X-Content-Type-Options": "nosniff"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(video, media_type="video/webm", headers=headers)

    app.add_api_route(PATH, example_video, include_in_schema=False)
