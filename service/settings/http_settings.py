"""The API: what it listens on, who may come in, what an upload may be."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, BaseModel, Field

from service.contracts import Quota
from service.settings.setting_types import MIB, CommaList, HttpUrlText


class HttpSettings(BaseModel):
    """The API: what it listens on, who may come in, what an upload may be."""

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
    signing_public_keys_file: Path | None = Field(
        None,
        description="File with public keys, as PEM one after the other, that are listed beside that of"
        " `signing_key_file`: those of earlier signatures, and of workers whose key this process does not have.",
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
    hash_uploads: bool = Field(
        True, description="Whether answers say the SHA-256 of their upload, by which `vidtr verify` knows the file."
    )
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
    source_hosts: CommaList = Field(
        (), description="Hosts, with all below them, whose videos are fetched by URL; `*` for all. When empty: none."
    )
    source_private_targets: bool = Field(
        False, description="Whether videos may be fetched by plain http and from addresses that are not public."
    )
    source_buckets: CommaList = Field(
        (), description="Buckets whose objects are fetched, as `s3://name` or `gs://name`. When empty: none."
    )
    source_s3_endpoint: HttpUrlText | None = Field(
        None, description="Address of a server that speaks S3, such as `https://minio.example.com`; AWS when unset."
    )
    source_s3_region: str = Field("us-east-1", description="Region of the buckets of S3.")
    source_s3_credentials_file: Path | None = Field(
        None, description="Shared credentials file of AWS for the buckets of S3; those of the machine when unset."
    )
    source_gs_endpoint: HttpUrlText | None = Field(
        None, description="Address of Google Cloud Storage, where it is not the public one."
    )
    source_gs_credentials_file: Path | None = Field(
        None, description="Key of a service account for Google Cloud Storage; that of the machine when unset."
    )
    source_max_bytes: int = Field(512 * MIB, gt=0, description="Most bytes that are read of a video by URL.")
    source_max_requests: int = Field(2000, gt=0, description="Most requests that reading a video by URL may take.")
    source_max_redirects: int = Field(3, ge=0, description="Most redirects that are followed for one request.")
    source_timeout_s: float = Field(120.0, gt=0, description="Longest that a video by URL may be waited for in all.")
    max_concurrent_sources: int = Field(
        0, ge=0, description="Videos by URL that are read at a time; 0 leaves one decode process for uploads."
    )
    max_live_streams: int = Field(
        8, ge=0, description="Live streams that one API process decodes at a time; more are refused. 0 refuses all."
    )
    stream_max_s: float = Field(4 * 3600.0, gt=0, description="Longest a live stream may last.")
    stream_idle_s: float = Field(30.0, gt=0, description="Pause in a live stream after which it ends.")
    stream_reconnect_s: float = Field(
        120.0, gt=0, description="Time for which a live stream's source is tried again before the stream ends."
    )
    stream_credentials_file: Path | None = Field(
        None, description="TOML file of the users and passwords of cameras, each for one host; none when unset."
    )
    stream_buffer_bytes: int = Field(
        4 * MIB, gt=0, description="Bytes of one live stream that may wait for its decoder; more wait at the sender."
    )
    stream_clip_bytes: int = Field(
        64 * MIB,
        gt=0,
        description="Bytes of clips of one live stream that are held at a time, in memory and again in the spool.",
    )
    stream_min_step_s: float = Field(
        0.25, gt=0, description="Smallest distance of the windows of a live stream, in seconds."
    )
    stream_max_delay_s: float = Field(
        10.0, gt=0, description="Longest a window of a live stream may wait for its answer; then it is dropped."
    )
    stream_max_waiting: int = Field(
        8, gt=0, description="Windows of one live stream that may wait to be queued; of more the oldest is dropped."
    )
    stream_keep_events: int = Field(2000, gt=0, description="Newest events of a live stream that can be read again.")
    stream_keep_s: int = Field(3600, gt=0, description="Time for which the events of an ended live stream are kept.")
    stream_lease_s: float = Field(
        10.0, ge=1, description="Time after which another process goes on with the live streams of one that is gone."
    )
    max_resumable_bytes: int = Field(8 * 1024 * MIB, gt=0, description="Largest upload that may arrive in pieces.")
    max_resumable_uploads: int = Field(
        100, gt=0, description="Uploads in pieces that a caller may have at a time, until they expire or are deleted."
    )
    resumable_spool_bytes: int = Field(
        32 * 1024 * MIB, gt=0, description="Most bytes of the spool that all uploads in pieces may have announced."
    )
    resumable_ttl_s: float = Field(
        86_400.0, gt=0, description="Time after its last piece when an upload that arrived in pieces is erased."
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
