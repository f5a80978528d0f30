"""Python client of the HTTP API, synchronous (`Client`) and asynchronous (`AsyncClient`).

Needs none of what the server needs: anyio, httpx, httpx-sse and pydantic only.
"""

from service.client.aio import AsyncClient
from service.client.batch_flow import Manifest
from service.client.classify_events import OnWindow
from service.client.request_flow import Exported, ExportFormat, Options
from service.client.retries import Retry
from service.client.steps import OnProgress, Progress
from service.client.sync import Client
from service.client.uploads import Video, VideoUrl
from service.contracts import JobRequest, JobResult, JobState, JobStatus, JobSummary, WindowResult
from service.errors import RequestError, ServiceError, TemporaryError, VideoError, VidtrError
from service.wire import BatchResult, BatchStatus, JobEvent, ModelInfo

__all__ = [
    "AsyncClient",
    "BatchResult",
    "BatchStatus",
    "Client",
    "ExportFormat",
    "Exported",
    "JobEvent",
    "JobRequest",
    "JobResult",
    "JobState",
    "JobStatus",
    "JobSummary",
    "Manifest",
    "ModelInfo",
    "OnProgress",
    "OnWindow",
    "Options",
    "Progress",
    "RequestError",
    "Retry",
    "ServiceError",
    "TemporaryError",
    "Video",
    "VideoError",
    "VideoUrl",
    "VidtrError",
    "WindowResult",
]
