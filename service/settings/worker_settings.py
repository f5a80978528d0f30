"""The worker."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field


class WorkerSettings(BaseModel):
    """The worker."""

    worker_block_ms: int = Field(1000, gt=0, le=4000, description="Longest single wait for new queue entries.")
    worker_lease_s: float = Field(
        15.0, gt=0, description="Life of a lease: a clip whose worker has not renewed it goes to another worker."
    )
    worker_max_deliveries: int = Field(
        3, gt=0, description="Deliveries after which a clip becomes a dead letter and its job fails."
    )
    worker_interactive_weight: int = Field(
        4, gt=0, description="Batches of interactive clips scored for each batch of bulk clips while both wait."
    )
    worker_bulk_batch_ms: int = Field(
        25,
        ge=0,
        le=10000,
        description="Longest that a batch of bulk clips may take while interactive ones arrive; 0 for no limit.",
    )
    worker_batch_delay_ms: int = Field(
        25,
        ge=0,
        le=1000,
        description="Shortest time between the starts of two batches, unless the first was full, while uploads wait to"
        " be decoded; 0 for no delay.",
    )
    worker_batches_in_flight: int = Field(
        1,
        gt=0,
        le=16,
        description="Batches that a worker has in flight at the same time: fetched, scored or written back.",
    )
    breaker_failures: int = Field(
        3, gt=0, description="Failures of the backend in a row after which a worker's circuit breaker opens."
    )
    breaker_open_s: float = Field(
        2.0, gt=0, description="Time after which an open circuit breaker lets one batch try the backend."
    )
    worker_heartbeat_s: float = Field(2.0, gt=0, description="Interval at which a worker announces its models.")
    worker_stall_s: float = Field(
        120.0,
        gt=0,
        description="Time without a sign of life after which a worker's `/health/live` says 503; above the time of one"
        " inference call.",
    )
    signing_key_file: Path | None = Field(
        None,
        description="File with the private Ed25519 key, as PEM, with which workers sign answers; none are signed when"
        " unset.",
    )
    worker_metrics_port: int = Field(
        0, ge=0, le=65535, description="Port of the worker's own /metrics and /health/live; 0 for none."
    )
