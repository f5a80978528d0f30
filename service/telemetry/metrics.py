"""Prometheus metrics of the api and the worker. Durations are in seconds.

Label values that are known beforehand exist from the start: a counter that first appears at 1 shows no increase, and
the alert that waits for its first event would miss it.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    start_http_server,
)
from prometheus_client.multiprocess import MultiProcessCollector

import service
from service.contracts import JobState
from service.errors import error_types

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

CONTENT_TYPE = CONTENT_TYPE_LATEST

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
STAGES = ("admission", "upload", "decode", "enqueue", "disk", "queue", "batch", "inference", "completion", "total")

# --- api -----------------------------------------------------------------------------------------------------------

REQUESTS = Counter("vidtr_http_requests", "HTTP requests answered.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "vidtr_http_request_seconds",
    "Time from the first byte of a request to the last of its answer.",
    ["method", "route"],
    buckets=BUCKETS_S,
)
REQUESTS_IN_PROGRESS = Gauge(
    "vidtr_http_requests_in_progress", "HTTP requests being answered.", multiprocess_mode="livesum"
)
CONNECTIONS = Gauge("vidtr_connections", "Connections open at the API.", multiprocess_mode="livesum")
CONNECTIONS_CLOSED = Counter(
    "vidtr_connections_closed",
    "Connections that the API ended by itself, by reason: an error's code, or what the client did not do.",
    ["reason"],
)
ERRORS = Counter("vidtr_errors", "Errors reported to callers, by their stable code.", ["code"])
ADMISSION_REJECTS = Counter(
    "vidtr_admission_rejects", "Uploads refused before their body was read, by the error's code.", ["reason"]
)
SHARE_REFUSALS = Counter(
    "vidtr_share_refusals",
    "Times that a caller got no more because it had used up its share, by what it wanted.",
    ["of"],
)
UPLOAD_BYTES = Counter("vidtr_upload_bytes", "Bytes of uploads received.")
BATCH_LINES = Counter("vidtr_batch_lines", "Lines of batches that have ended, by how.", ["status"])
WEBHOOKS = Counter(
    "vidtr_webhooks",
    "Tries to deliver a webhook: `failed` is tried again, `delivered` and `given_up` are final.",
    ["outcome"],
)
RESULT_CACHE = Counter(
    "vidtr_result_cache", "Uploads that were looked up among earlier results, by whether one was there.", ["outcome"]
)
FRAMES_DECODED = Counter("vidtr_frames_decoded", "Video frames decoded.")
DECODE_FAILURES = Counter("vidtr_decode_failures", "Uploads that could not be decoded, by the error's code.", ["code"])
DECODES_IN_PROGRESS = Gauge(
    "vidtr_decodes_in_progress",
    "Uploads being decoded or waiting for a decode process.",
    multiprocess_mode="livesum",
)
DECODE_PROCESSES = Gauge("vidtr_decode_processes", "Decode processes of the decode pool.", multiprocess_mode="livesum")
SANDBOX_LAYER = Gauge(
    "vidtr_sandbox_layer",
    "1 for each layer that shuts the decode processes in on this machine, 0 for those that it does not offer.",
    ["layer"],
    multiprocess_mode="min",
)

STREAMS = Gauge("vidtr_streams", "Live streams that this process decodes.", multiprocess_mode="livesum")
STREAM_ENDS = Counter("vidtr_stream_ends", "Live streams that ended in this process, by reason.", ["reason"])
STREAM_WINDOWS = Counter(
    "vidtr_stream_windows", "Windows of live streams: decoded, told of with an answer, or dropped.", ["outcome"]
)
STREAM_DELAY = Histogram(
    "vidtr_stream_delay_seconds",
    "Time from the arrival of the last byte of a live window to its answer.",
    buckets=BUCKETS_S,
)

# --- the queue, sampled by the api -----------------------------------------------------------------------------------

REDIS_UP = Gauge("vidtr_redis_up", "Whether Redis took the last write of a sample.", multiprocess_mode="mostrecent")
PARTITIONS_UP = Gauge(
    "vidtr_partitions_up", "Partitions of the queue that took the last sample.", multiprocess_mode="mostrecent"
)
REDIS_MEMORY_BYTES = Gauge("vidtr_redis_memory_bytes", "Memory that Redis uses.", multiprocess_mode="mostrecent")
REDIS_MEMORY_LIMIT_BYTES = Gauge(
    "vidtr_redis_memory_limit_bytes", "Memory budget of Redis; 0 for none.", multiprocess_mode="mostrecent"
)
QUEUE_CLIPS = Gauge(
    "vidtr_queue_clips",
    "Clips that wait in the queue or are being scored.",
    ["model", "class"],
    multiprocess_mode="mostrecent",
)
QUEUE_BYTES = Gauge(
    "vidtr_queue_bytes", "Bytes of the clips in the queue.", ["model", "class"], multiprocess_mode="mostrecent"
)
QUEUE_OLDEST_SECONDS = Gauge(
    "vidtr_queue_oldest_seconds",
    "Age of the oldest clip in the queue; 0 when it is empty.",
    ["model", "class"],
    multiprocess_mode="mostrecent",
)
MODEL_SERVED = Gauge(
    "vidtr_model_served",
    "1 while a live worker serves the model version, 0 once none does.",
    ["model", "version"],
    multiprocess_mode="mostrecent",
)
MODEL_ARITHMETIC = Gauge(
    "vidtr_model_arithmetic",
    "1 while this worker computes the model version in this number format, 0 once it does not.",
    ["model", "version", "arithmetic"],
    multiprocess_mode="mostrecent",
)
MODELS_SERVED = Gauge(
    "vidtr_models_served", "Model versions that a live worker serves.", multiprocess_mode="mostrecent"
)
WORKERS = Gauge(
    "vidtr_workers",
    "Live workers by the state of the circuit breaker in front of their backend.",
    ["breaker"],
    multiprocess_mode="mostrecent",
)

# --- worker ----------------------------------------------------------------------------------------------------------

BATCH_CLIPS = Histogram(
    "vidtr_batch_clips",
    "Clips in one inference call; sum divided by count is the mean batch size.",
    ["model"],
    buckets=(1, 2, 4, 8, 16, 32, 64),
)
CLIPS = Counter("vidtr_clips", "Clips that a worker is done with, by outcome.", ["outcome"])
MODEL_CLIPS = Counter("vidtr_model_clips", "Clips scored, by model version.", ["model", "version"])
JOBS = Counter("vidtr_jobs", "Jobs that reached a final state.", ["state"])
LEASES_LOST = Counter("vidtr_leases_lost", "Clips taken over because their worker did not finish them in time.")
DEAD_LETTERS = Counter("vidtr_dead_letters", "Jobs given up because of one of their clips.")
BACKEND_ERRORS = Counter(
    "vidtr_backend_errors",
    "Inference calls that failed: `unavailable` is retried, `failed` is final for the clip.",
    ["kind"],
)

# --- both ------------------------------------------------------------------------------------------------------------

STAGE = Histogram(
    "vidtr_stage_seconds",
    "Time spent in a stage: of a job, of a clip (queue) or of a batch (batch, inference, completion).",
    ["stage"],
    buckets=BUCKETS_S,
)
BUILD_INFO = Gauge(
    "vidtr_build_info",
    "1; the labels say which release runs, and on which Python.",
    ["version", "python"],
    multiprocess_mode="mostrecent",
)

for _outcome in ("hit", "miss"):
    RESULT_CACHE.labels(_outcome)
_OF_STAGE = {name: STAGE.labels(name) for name in STAGES}
for _code in error_types():
    ERRORS.labels(_code)
for _state in filter(lambda state: state.is_final, JobState):
    JOBS.labels(_state)
for _outcome in ("scored", "failed", "expired", "dropped"):
    CLIPS.labels(_outcome)
for _reason in (
    "draining",
    "backend_unavailable",
    "queue_full",
    "queue_unavailable",
    "unknown_model",
    "unauthorized",
    "quota_exceeded",
):
    ADMISSION_REJECTS.labels(_reason)
for _code in ("undecodable", "no_video_stream", "video_too_short", "decode_timeout", "decoder_crash"):
    DECODE_FAILURES.labels(_code)
for _kind in ("unavailable", "failed"):
    BACKEND_ERRORS.labels(_kind)
for _reason in (
    "malformed_request",
    "headers_too_large",
    "url_too_long",
    "head_timeout",
    "too_many_connections",
    "silent",
    "gave_way",
    "answer_stalled",
):
    CONNECTIONS_CLOSED.labels(_reason)
for _reason in ("end", "idle", "limit", "deleted", "moved", "failed"):
    STREAM_ENDS.labels(_reason)
for _outcome in ("decoded", "told", "dropped"):
    STREAM_WINDOWS.labels(_outcome)
for _of in ("uploads", "streams", "clips", "bytes", "spool", "followers", "batches", "webhooks", "webhook_hosts"):
    SHARE_REFUSALS.labels(_of)
for _outcome in ("delivered", "failed", "given_up"):
    WEBHOOKS.labels(_outcome)
for _status in ("succeeded", "failed", "cancelled"):
    BATCH_LINES.labels(_status)
BUILD_INFO.labels(service.__version__, platform.python_version()).set(1)


class _Timed:
    """Observes the time spent inside, also when it ends in an error."""

    __slots__ = ("_histogram", "_started")

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram

    def __enter__(self) -> None:
        self._started = perf_counter()

    def __exit__(self, *_: object) -> None:
        self._histogram.observe(perf_counter() - self._started)


def stage(name: str) -> AbstractContextManager[None]:
    """Observe the time spent inside, also when it ends in an error. `name` is one of `STAGES`."""
    return _Timed(_OF_STAGE[name])


def registry(multiprocess_dir: Path | None) -> CollectorRegistry:
    """What a scrape collects: the metrics of all processes that share `multiprocess_dir`, else this process's own."""
    if multiprocess_dir is None:
        return REGISTRY
    collected = CollectorRegistry()
    MultiProcessCollector(collected, path=str(multiprocess_dir))  # type: ignore[no-untyped-call]
    return collected


def render(multiprocess_dir: Path | None) -> bytes:
    """The metrics in Prometheus' text format."""
    return generate_latest(registry(multiprocess_dir))


def serve(
    host: str, port: int, multiprocess_dir: Path | None, stalled: Callable[[], str | None] = lambda: None
) -> None:
    """Answer scrapes at `host:port` from a thread of its own, until the process ends.

    `GET /health/live` is answered there too: 503 with what `stalled` says, 200 while it says nothing.
    """
    server, _ = start_http_server(port, host, registry=registry(multiprocess_dir))
    scraped = server.get_app()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/health/live":
            return scraped(environ, start_response)  # type: ignore[misc]
        reason = stalled()
        start_response("200 OK" if reason is None else "503 Service Unavailable", [("Content-Type", "text/plain")])
        return [f"{reason or 'ok'}\n".encode()]

    server.set_app(app)
