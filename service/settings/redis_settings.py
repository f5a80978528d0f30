"""Redis, and what is kept there."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from service.settings.setting_types import MIB


class RedisSettings(BaseModel):
    """Redis, and what is kept there."""

    redis_appendfsync: Literal["always", "everysec"] = Field(
        "everysec", description="When the private Redis of `vidtr up` writes its append-only file to disk."
    )
    redis_waitaof_s: float = Field(
        3.0,
        ge=0,
        le=8,
        description="Longest that a 202 waits until Redis has its job on disk (`WAITAOF`, Redis 7.2); 0 for no wait.",
    )
    redis_wait_replicas: int = Field(
        0, ge=0, le=100, description="Replicas of Redis that must have a job before its 202; 0 for none."
    )
    redis_durability: Literal["best_effort", "require"] = Field(
        "best_effort",
        description="Whether a 202 is also given where Redis cannot tell that it will keep the job.",
    )
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="Redis address: a `redis://`, `rediss://` or `unix://` URL of one server, `redis+sentinel://` of"
        " Sentinels, `redis+cluster://` of a cluster.",
    )
    redis_password_file: Path | None = Field(
        None, description="File with the password for Redis, read for each connection; instead of one in `redis_url`."
    )
    redis_prefix: str = Field(
        "vidtr",
        pattern=r"^([A-Za-z0-9_.:-]+|[A-Za-z0-9_.:-]*\{[A-Za-z0-9_.:-]+\}[A-Za-z0-9_.:-]*)$",
        description="Prefix of every Redis key; separates installations. Braces mark the hash tag of a cluster.",
    )
    queue_partitions: int = Field(
        1,
        ge=1,
        le=256,
        description="Queues of their own among which jobs are divided; in a Redis Cluster its servers share the work.",
    )
    max_queue_clips: int = Field(2000, gt=0, description="Clips in flight per model above which uploads are refused.")
    max_queue_bytes: int = Field(
        1024 * MIB, gt=0, description="Bytes of clips in flight, of all models, above which uploads are refused."
    )
    max_wait_share: float = Field(
        0.8,
        gt=0,
        le=1,
        description="Fraction of its deadline that a job may wait: an upload is refused when its expected wait in "
        "the queue, or for a decode process, is longer. 0.8 is 80 %.",
    )
    caller_share: float = Field(
        0.75,
        gt=0,
        le=1,
        description="Most that one caller may hold of what it holds and what is free; 1 for no limit.",
    )
    reservation_ttl_s: float = Field(
        30.0,
        ge=2,
        description="Life of the queue capacity and the Idempotency-Key that an upload holds, unless it is renewed.",
    )
    reservation_start_clips: int = Field(
        10,
        gt=0,
        description="Clips of queue capacity that an upload reserves before it has arrived; it reserves the rest then.",
    )
    bulk_clips: int = Field(16, gt=0, description="Jobs of more clips than this are bulk, as are asynchronous ones.")
    idempotency_ttl_s: int = Field(86_400, gt=0, description="How long an Idempotency-Key leads to its job.")
    payload_ttl_s: int = Field(900, gt=0, description="Life of a clip payload in Redis; must exceed `job_deadline_s`.")
    result_ttl_s: int = Field(3600, gt=0, description="Life of a finished job's result in Redis.")
    result_cache_s: int = Field(
        0, ge=0, description="How long a repeated upload with the same options gets the earlier result; 0 for never."
    )
    tombstone_ttl_s: int = Field(
        86_400, gt=0, description="How long a job whose result expired still answers 410 instead of 404."
    )

    dead_letter_ttl_s: int = Field(86_400, gt=0, description="Life of a dead letter and of the clips kept with it.")
    dead_letter_max_jobs: int = Field(100, gt=0, le=1000, description="Most dead letters kept; the oldest go first.")
    dead_letter_max_bytes: int = Field(
        256 * MIB, ge=0, description="Most bytes of clips kept with dead letters; the oldest go first."
    )
