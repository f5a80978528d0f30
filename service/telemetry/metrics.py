"""Prometheus metrics of the api and the worker. Durations are in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST

_STAGE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

STAGE = Histogram(
    "vidtr_stage_seconds",
    "Time spent in a stage: upload, decode, enqueue and total per job; queue per clip; batch and inference per batch.",
    ["stage"],
    buckets=_STAGE_BUCKETS,
)
BATCH_CLIPS = Histogram(
    "vidtr_batch_clips",
    "Clips in one inference call; sum divided by count is the mean batch size.",
    ["model"],
    buckets=(1, 2, 4, 8, 16, 32, 64),
)
QUEUE_CLIPS = Gauge(
    "vidtr_queue_clips",
    "Clips that wait in the queue or are being scored.",
    ["model"],
    multiprocess_mode="mostrecent",
)
REQUESTS = Counter("vidtr_http_requests", "HTTP requests answered.", ["method", "route", "status"])
ERRORS = Counter("vidtr_errors", "Errors reported to callers, by their stable code.", ["code"])
JOBS = Counter("vidtr_jobs", "Jobs that reached a final state.", ["state"])
CLIPS = Counter("vidtr_clips", "Clips that a worker is done with, by outcome.", ["outcome"])
FRAMES_DECODED = Counter("vidtr_frames_decoded", "Video frames decoded.")
UPLOAD_BYTES = Counter("vidtr_upload_bytes", "Bytes of uploads received.")


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Observe the time spent inside, also when it ends in an error."""
    started = perf_counter()
    try:
        yield
    finally:
        STAGE.labels(name).observe(perf_counter() - started)


def render(multiprocess_dir: Path | None) -> bytes:
    """The metrics in Prometheus' text format; those of all processes that share `multiprocess_dir`, where it is set."""
    if multiprocess_dir is None:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(multiprocess_dir))  # type: ignore[no-untyped-call]
    return generate_latest(registry)
