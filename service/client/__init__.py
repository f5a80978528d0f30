"""Python client of the HTTP API, synchronous (`Client`) and asynchronous (`AsyncClient`).

Needs none of what the server needs: anyio, httpx, httpx-sse and pydantic only.
"""

from service.client.aio import AsyncClient
from service.client.request_flow import OnProgress, Options, Progress
from service.client.retries import Retry
from service.client.sync import Client
from service.client.uploads import Video
from service.contracts import JobRequest, JobResult, JobState, JobStatus, JobSummary
from service.errors import RequestError, ServiceError, TemporaryError, VideoError, VidtrError
from service.wire import JobEvent, ModelInfo

__all__ = [
    "AsyncClient",
    "Client",
    "JobEvent",
    "JobRequest",
    "JobResult",
    "JobState",
    "JobStatus",
    "JobSummary",
    "ModelInfo",
    "OnProgress",
    "Options",
    "Progress",
    "RequestError",
    "Retry",
    "ServiceError",
    "TemporaryError",
    "Video",
    "VideoError",
    "VidtrError",
]
