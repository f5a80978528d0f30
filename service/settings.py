"""All settings of the program. Each is read from the environment variable `VIDTR_<NAME>`, a `.env` file or a secret.

This is the only module that reads the environment; only the command line and the app factories read Settings.
"""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import AliasChoices, Field, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from service.contracts import ModelName, Quota
from service.redis_url import RedisUrl, hash_tag
from service.renamed_settings import RenamedSettingsSource

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")
CommaList = Annotated[tuple[str, ...], NoDecode]

Engine = Literal["torchscript", "triton"]

SECRETS_DIR = Path("/run/secrets")
# Names a directory of secrets of this program alone, which go before variables.
SECRETS_VARIABLE = "VIDTR_SECRETS_DIR"
# Settings that hold passwords, keys or their hashes: they reach child processes by files, never by the environment.
SECRET = ("api_keys", "otlp_endpoint", "redis_url", "triton_key", "webhook_secret")
MIB = 1024 * 1024


class Settings(BaseSettings):
    """The one config surface. Units stand in the names: `_s` seconds, `_ms` milliseconds, `_bytes` bytes."""

    model_config = SettingsConfigDict(
        env_prefix="VIDTR_",
        env_file=".env",
        # Where Docker and Kubernetes mount secrets: a file `vidtr_redis_url` keeps a password out of the environment.
        secrets_dir=SECRETS_DIR if SECRETS_DIR.is_dir() else None,
        extra="ignore",
        frozen=True,
    )

    # --- http
    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: int = Field(8080, ge=0, le=65535, description="Port the API listens on; 0 takes a free one.")
    root_path: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="Path under which a proxy serves the API, such as `/video`, where it strips it from requests.",
    )
    allowed_hosts: CommaList = Field(
        (),
        description="Names, besides `localhost` and addresses, under which the API answers; `*` for all. When empty:"
        " none on a loopback address, all elsewhere.",
    )
    cors_origins: CommaList = Field(
        (), description="Origins whose pages may call the API, such as `https://app.example.com`; `*` for all."
    )
    max_header_bytes: int = Field(
        32 * 1024, ge=1024, description="Most bytes of a request's head: its first line and headers."
    )
    max_headers: int = Field(100, gt=0, description="Most headers of a request.")
    max_url_bytes: int = Field(8192, gt=0, description="Most bytes of a request's URL.")
    head_timeout_s: float = Field(
        10.0, gt=0, description="Longest that the head of a request may take, from the connection on."
    )
    keep_alive_s: int = Field(5, gt=0, description="Time after an answer when an idle connection is closed.")
    answer_stall_s: float = Field(
        60.0, gt=0, description="Longest that a client may read nothing while a response waits for it."
    )
    max_connections: int = Field(
        1000,
        gt=0,
        description="Connections that one API process holds; fewer where the limit of open files is lower.",
    )
    max_connections_per_address: int = Field(
        500, gt=0, description="Connections that one address may hold; never more than half of all."
    )
    trusted_proxies: CommaList = Field(
        (), description="Addresses and networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` count."
    )
    anonymous: Literal["loopback", "allow", "deny"] = Field(
        "loopback", description="Whether requests without an API key are accepted."
    )
    api_keys: str | None = Field(None, description="API keys, as TOML; the hashes, not the keys themselves.")
    api_keys_file: Path | None = Field(
        None, description="File with API keys, as TOML; read again within seconds when it changes."
    )
    quota_requests: Quota | None = Field(
        None, description="Uploads that one caller may send, such as `60/minute`; no limit when unset."
    )
    quota_video_seconds: Quota | None = Field(
        None, description="Seconds of video that one caller may send, such as `36000/day`; no limit when unset."
    )
    webhook_secret: str | None = Field(
        None,
        pattern=r"^whsec_([A-Za-z0-9+/]{4}){8,}([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
        description="Secret from which webhooks are signed: `whsec_` and at least 24 bytes in base64. No webhooks when"
        " unset.",
    )
    webhook_private_targets: bool = Field(
        False, description="Whether webhooks may go to private addresses, and over plain http."
    )
    webhook_timeout_s: float = Field(10.0, gt=0, description="Longest that one try to deliver a webhook may take.")
    webhook_concurrency: int = Field(
        16, gt=0, description="Tries to deliver a webhook that one API process makes at a time."
    )
    webhook_retry_s: float = Field(
        5.0,
        gt=0,
        description="Wait before the second try to deliver a webhook; each further wait is four times as long.",
    )
    webhook_give_up_s: float = Field(
        12 * 3600.0, ge=0, description="Time after the end of a job when its webhook is given up."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level logged.")
    log_format: Literal["json", "console"] = Field("json", description="Shape of log lines.")
    max_upload_bytes: int = Field(512 * MIB, gt=0, description="Largest request body accepted.")
    upload_idle_s: float = Field(20.0, gt=0, description="Longest pause in an upload.")
    upload_timeout_s: float = Field(600.0, gt=0, description="Longest an upload may take in all.")
    upload_min_bytes_per_s: int = Field(
        2048, ge=0, description="Least average speed of an upload once its grace is over; 0 for none."
    )
    upload_grace_s: float = Field(
        10.0, gt=0, description="Time by which an upload may lag behind its least average speed."
    )
    max_concurrent_uploads: int = Field(
        64, gt=0, description="Uploads that one API process receives and decodes at a time; more are refused."
    )
    max_followers: int = Field(
        500, gt=0, description="Streams of job events that one API process serves at a time; more are refused."
    )
    sync_wait_s: float = Field(
        30.0, gt=0, description="Longest a synchronous request waits for its result before it becomes a 202."
    )
    job_deadline_s: float = Field(
        600.0, gt=0, description="Longest a job may take; then it is expired. `X-Deadline-S` shortens it."
    )
    shutdown_grace_s: float = Field(
        20.0, gt=0, description="Time a stopping process gives to the requests and batches in flight."
    )
    spool_dir: Path | None = Field(
        None, description="Directory for uploads being decoded; a private temporary one when unset."
    )
    spool_min_free_bytes: int = Field(
        256 * MIB,
        ge=0,
        description="Free space that must remain in `spool_dir`; below it uploads are refused.",
    )

    metrics_host: str = Field("127.0.0.1", description="Address of the metrics ports.")
    api_metrics_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port of the API's metrics, which its public port then no longer serves; 0 leaves them there.",
    )
    metrics_sample_s: float = Field(
        5.0, gt=0, description="Interval at which the API reads the state of the queue for its metrics."
    )
    otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://",
        description="Base URL of an OTLP/HTTP collector for traces, such as `http://otel:4318`; off when unset.",
    )
    trace_sample_ratio: float = Field(
        1.0, ge=0, le=1, description="Share of requests traced, of those whose caller has not decided it."
    )
    prometheus_multiproc_dir: Path | None = Field(
        None,
        validation_alias=AliasChoices("prometheus_multiproc_dir", "PROMETHEUS_MULTIPROC_DIR"),
        description="Directory in which api and worker processes of one machine share their metrics; set by `vidtr up`."
        " Read from `PROMETHEUS_MULTIPROC_DIR`, the variable that the Prometheus client itself uses.",
    )

    # --- models
    model_repository: Path = Field(Path("model_repository"), description="Directory in Triton's repository layout.")
    default_model: ModelName = Field("camera_motion", description="Model of requests that name none.")
    engine: Engine = Field("torchscript", description="Where clips are scored.")
    torch_threads: int = Field(
        0, ge=0, description="Threads of one in-process forward; 0 takes as many as are worth their cores."
    )
    torchscript_operators: CommaList = Field(
        (), description="Operators that TorchScript files may use besides those that compute, such as `aten::rand`."
    )
    triton_url: str = Field(
        "127.0.0.1:8001", description="Address of Triton's gRPC endpoint; several, separated by commas, share the work."
    )
    triton_key: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_-]{16,}$", description="Key that Triton requires; none is sent when unset."
    )
    triton_timeout_s: float = Field(30.0, gt=0, description="Longest one inference call to Triton may take.")
    triton_shared_memory: bool = Field(
        False,
        description="Whether clips reach Triton through shared memory; only where worker and Triton share `/dev/shm`.",
    )
    triton_dir: Path = Field(
        Path(".triton"),
        description="Where `vidtr install-triton` puts the tritonserver of `--engine triton`.",
    )
    state_dir: Path = Field(Path(".vidtr"), description="Where `vidtr up` keeps its Redis data between runs.")

    # --- redis
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

    # --- worker
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
    worker_metrics_port: int = Field(
        0, ge=0, le=65535, description="Port of the worker's own /metrics and /health/live; 0 for none."
    )

    # --- video
    decode_workers: int = Field(0, ge=0, description="Decode processes; 0 takes one per core that the process may use.")
    decode_isolation: Literal["caller", "upload"] = Field(
        "caller",
        description="Whose uploads one process decodes: those of one caller, or a single upload.",
    )
    decode_sandbox: Literal["require", "best_effort"] | None = Field(
        None,
        description="Whether uploads are decoded only where the system can sandbox decode processes.",
    )
    decode_crashes_per_layout: int = Field(
        5, ge=0, description="Crashes of decode processes after which new ones get another memory layout; 0 for never."
    )
    decode_crashes_per_caller: int = Field(
        20,
        ge=0,
        description="Uploads of one caller that may crash a decode process before further ones are refused;"
        " 0 for no limit.",
    )
    decode_crash_window_s: float = Field(600.0, gt=0, description="Time for which a crash counts against its caller.")
    decode_timeout_s: float = Field(60.0, gt=0, description="Wall-clock seconds one upload may decode.")
    decode_cpu_s: int = Field(120, gt=0, description="CPU seconds one upload may decode.")
    decode_memory_bytes: int = Field(2048 * MIB, gt=0, description="Address space of a decode process.")
    decode_recycle_after: int = Field(
        1000, gt=0, description="Uploads after which a process that decodes them is replaced."
    )
    allowed_containers: CommaList = Field(
        ("mp4", "matroska", "avi", "mpegts", "mpeg", "flv", "gif"),
        description="Container families accepted (mp4 covers mov and 3gp, matroska covers webm).",
    )
    allowed_codecs: CommaList = Field(
        (
            "h264",
            "hevc",
            "vp8",
            "vp9",
            "av1",
            "mpeg4",
            "mpeg2video",
            "mpeg1video",
            "mjpeg",
            "gif",
            "prores",
            "h263",
        ),
        description="Video codecs accepted, by FFmpeg's codec name.",
    )
    max_duration_s: float = Field(4 * 3600.0, gt=0, description="Longest video accepted.")
    max_pixels: int = Field(4096 * 2304, gt=0, description="Most pixels in one frame.")
    max_streams: int = Field(32, gt=0, description="Most streams in a container.")
    max_packets: int = Field(2_000_000, gt=0, description="Most packets read from a file.")
    max_decoded_frames: int = Field(500_000, gt=0, description="Most frames decoded for one upload.")
    max_auto_windows: int = Field(10, gt=0, description="Most windows that `windows=auto` plans.")
    max_clips_per_job: int = Field(200, gt=0, description="Most windows times crops in one job.")
    min_distinct_frames: int = Field(4, gt=0, description="Fewest different frames that make an answer.")

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, data: dict[str, object]) -> dict[str, object]:
        lists = {name for name, field in cls.model_fields.items() if field.annotation == tuple[str, ...]}
        return {
            key: tuple(part.strip() for part in value.split(",") if part.strip())
            if key in lists and isinstance(value, str)
            else value
            for key, value in data.items()
        }

    @field_validator("redis_url")
    @classmethod
    def _redis_url(cls, value: str) -> str:
        RedisUrl.parse(value)
        return value

    @model_validator(mode="after")
    def _partitions_hold_a_job(self) -> Settings:
        share = -(-self.max_queue_clips // self.queue_partitions)
        if self.queue_partitions > 1 and share < self.max_clips_per_job:
            raise ValueError(
                f"each of {self.queue_partitions} `queue_partitions` may hold {share} of {self.max_queue_clips}"
                f" `max_queue_clips`, and a job may have {self.max_clips_per_job} (`max_clips_per_job`);"
                f" set `max_queue_clips` to {self.queue_partitions * self.max_clips_per_job} at least"
            )
        if self.queue_partitions > 1 and hash_tag(self.redis_prefix):
            raise ValueError(
                f"`redis_prefix` is {self.redis_prefix}, and with {self.queue_partitions} `queue_partitions` each has a"
                " hash tag of its own; leave the braces out"
            )
        return self

    @property
    def triton_urls(self) -> tuple[str, ...]:
        """Each address of `triton_url`."""
        return tuple(url.strip() for url in self.triton_url.split(",") if url.strip())

    def subset(self, config: type[Config]) -> Config:
        """A package's own config: a dataclass whose field names are names of settings."""
        return config(**{field.name: getattr(self, field.name) for field in fields(config)})

    def child_environment(self, secrets: Path) -> dict[str, str]:
        """The environment of a child process that is to have these same settings.

        Secrets are not in it: they go into files in the directory `secrets`, which only this user can read, and which
        has to outlive the start of the child.
        """
        values = self.model_dump(mode="json", exclude={"prometheus_multiproc_dir"}, exclude_none=True)
        secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in SECRET:
            file = secrets / f"vidtr_{name}"
            file.unlink(missing_ok=True)
            if name in values:
                file.touch(mode=0o600)
                file.write_text(values.pop(name))
        variables = {
            f"VIDTR_{name.upper()}": ",".join(value) if isinstance(value, list) else str(value)
            for name, value in values.items()
        }
        if self.prometheus_multiproc_dir is not None:
            variables["PROMETHEUS_MULTIPROC_DIR"] = str(self.prometheus_multiproc_dir)
        secret = {f"VIDTR_{name}".upper() for name in SECRET}
        kept = {name: value for name, value in os.environ.items() if name.upper() not in secret}
        return {**kept, **variables, SECRETS_VARIABLE: str(secrets.absolute())}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The usual ones, after the secrets that were handed to this program alone."""
        folder = os.environ.get(SECRETS_VARIABLE)
        handed = () if folder is None else (SecretsSettingsSource(settings_cls, secrets_dir=folder),)
        renamed = RenamedSettingsSource(dotenv_settings, "VIDTR_")
        return (init_settings, *handed, env_settings, dotenv_settings, file_secret_settings, renamed)

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.payload_ttl_s <= self.job_deadline_s:
            msg = (
                f"payload_ttl_s ({self.payload_ttl_s}) must exceed job_deadline_s ({self.job_deadline_s:g}): "
                "a clip must outlive the job that waits for it"
            )
            raise ValueError(msg)
        if self.worker_stall_s <= self.triton_timeout_s:
            msg = (
                f"worker_stall_s ({self.worker_stall_s:g}) must exceed triton_timeout_s ({self.triton_timeout_s:g}): "
                "a worker that waits for Triton is not stuck"
            )
            raise ValueError(msg)
        if self.redis_waitaof_s == 0 and (self.redis_wait_replicas or self.redis_durability == "require"):
            msg = (
                "redis_waitaof_s (0) must exceed 0 with redis_wait_replicas or redis_durability=require: "
                "it is how long a 202 waits for both"
            )
            raise ValueError(msg)
        if self.redis_password_file is not None and RedisUrl.parse(self.redis_url).has_password:
            msg = "redis_password_file excludes a password in redis_url: which of them counts would be a guess"
            raise ValueError(msg)
        if self.webhook_give_up_s > self.tombstone_ttl_s:
            msg = (
                f"webhook_give_up_s ({self.webhook_give_up_s:g}) must not exceed "
                f"tombstone_ttl_s ({self.tombstone_ttl_s}): a webhook tells of a job that can still be asked for"
            )
            raise ValueError(msg)
        return self
