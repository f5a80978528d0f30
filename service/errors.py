"""The one exception hierarchy. Every error has a stable `code`; `service.api.problems` maps codes to HTTP statuses."""

from __future__ import annotations

from typing import Any

Number = int | float

# Seconds after which a caller may try again where nothing tells how long the obstacle will last.
RETRY_AFTER_S = 2.0


def sentence(text: str) -> str:
    """A text of another program, such as a library's message, as the end of a message: with a full stop."""
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


class VidtrError(Exception):
    """Base of everything the service reports to a caller.

    `detail` is for a person, in whole sentences: what happened, the limit and the actual value, and what to do. `limit`
    and `actual` are the bound that was hit and the value that hit it. `retry_after_s` says when to try again.
    """

    code: str = "internal_error"
    request_id: str = ""
    """Id under which the server's log speaks of the request; a client sets it on what it raises."""

    def __init__(
        self,
        detail: str,
        *,
        limit: Number | str | None = None,
        actual: Number | str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.limit = limit
        self.actual = actual
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception that is pickled or copied would lose its keyword-only arguments.
        return _rebuild, (type(self), self.detail, self.limit, self.actual, self.retry_after_s)

    def to_dict(self) -> dict[str, Any]:
        """The error as plain data, for job records: `error_from_dict` is its inverse."""
        return {
            "code": self.code,
            "detail": self.detail,
            "limit": self.limit,
            "actual": self.actual,
            "retry_after_s": self.retry_after_s,
        }


def _rebuild(
    cls: type[VidtrError],
    detail: str,
    limit: Number | str | None,
    actual: Number | str | None,
    retry_after_s: float | None,
) -> VidtrError:
    return cls(detail, limit=limit, actual=actual, retry_after_s=retry_after_s)


# --- the families: what a caller can do about it ------------------------------------------------------------------


class RequestError(VidtrError):
    """The request is wrong or not allowed. Sending it again does not help."""


class VideoError(VidtrError):
    """The video cannot be used, or only with other options."""


class TemporaryError(VidtrError):
    """Not now: the same request may succeed later, after `retry_after_s` where that is known."""


class ServiceError(VidtrError):
    """The service failed, or ran out of time."""


# --- the request -------------------------------------------------------------------------------------------------


class MalformedRequest(RequestError):
    """The body or a header cannot be parsed."""

    code = "malformed_request"


class HeadersTooLarge(RequestError):
    """The request's first line and headers have more than `max_header_bytes`, or are more than `max_headers`."""

    code = "headers_too_large"


class UrlTooLong(RequestError):
    """The URL has more than `max_url_bytes`."""

    code = "url_too_long"


class HeadTimeout(TemporaryError):
    """The first line and headers of the request were not complete after `head_timeout_s`."""

    code = "head_timeout"


class TooManyConnections(TemporaryError):
    """The api has `max_connections` open, or `max_connections_per_address` of the caller's, and none is idle."""

    code = "too_many_connections"


class HostNotAllowed(RequestError):
    """The request names a host that is none of `allowed_hosts`."""

    code = "host_not_allowed"


class CrossSiteRefused(RequestError):
    """A browser sent the request for a page of another origin that is none of `cors_origins`."""

    code = "cross_site_refused"


class InvalidOption(RequestError):
    """A query option is unknown or out of range."""

    code = "invalid_option"


class EmptyUpload(RequestError):
    """The upload has no bytes."""

    code = "empty_upload"


class UploadTooLarge(RequestError):
    """The body is larger than `max_upload_bytes`."""

    code = "upload_too_large"


class UnsupportedMediaType(RequestError):
    """The request's Content-Type is neither multipart/form-data nor video/* nor application/octet-stream."""

    code = "unsupported_media_type"


class UploadTimeout(TemporaryError):
    """The body arrived too slowly: a pause of `upload_idle_s`, less than `upload_min_bytes_per_s` on average, or more
    than `upload_timeout_s` in all."""

    code = "upload_timeout"


class IdempotencyInProgress(TemporaryError):
    """A request with the same Idempotency-Key is still uploading or decoding."""

    code = "idempotency_in_progress"


class IdempotencyKeyReused(RequestError):
    """The Idempotency-Key was used for another video or with other options."""

    code = "idempotency_key_reused"


class Unauthorized(RequestError):
    """An API key is needed, and there is none, or one that is unknown or has expired."""

    code = "unauthorized"


class QuotaExceeded(TemporaryError):
    """The caller has used up its quota of requests or of seconds of video."""

    code = "quota_exceeded"


class TooManyCrashes(TemporaryError):
    """Too many uploads of the caller have crashed the decoder lately."""

    code = "too_many_crashes"


class NotFound(RequestError):
    """No route has this path."""

    code = "not_found"


class MethodNotAllowed(RequestError):
    """The path exists, the method does not."""

    code = "method_not_allowed"


class UnknownModel(RequestError):
    """No worker serves a model, or a version, of this name."""

    code = "unknown_model"


class UnknownJob(RequestError):
    """No job has this id."""

    code = "unknown_job"


class UnknownDeadLetter(RequestError):
    """No dead letter is kept for this job, or what a replay needs is gone."""

    code = "unknown_dead_letter"


class JobDeleted(RequestError):
    """The job was cancelled or erased by its owner."""

    code = "job_deleted"


class ResultExpired(RequestError):
    """The job finished, and its result has outlived `result_ttl_s`."""

    code = "result_expired"


# --- the video ---------------------------------------------------------------------------------------------------


class ContainerNotAllowed(VideoError):
    """The bytes are no container of the allow-list: a playlist, a picture, an audio file, or nothing known."""

    code = "container_not_allowed"


class CodecNotAllowed(VideoError):
    """The video stream's codec is not on the allow-list."""

    code = "codec_not_allowed"


class Undecodable(VideoError):
    """The container or the stream is damaged beyond use."""

    code = "undecodable"


class NoVideoStream(VideoError):
    """The container holds no video stream."""

    code = "no_video_stream"


class VideoTooShort(VideoError):
    """Fewer distinct frames than `min_distinct_frames` can be sampled."""

    code = "video_too_short"


class DurationLimit(VideoError):
    """The video lasts longer than `max_duration_s`."""

    code = "duration_limit"


class PixelLimit(VideoError):
    """A frame has more pixels than `max_pixels`."""

    code = "pixel_limit"


class PacketLimit(VideoError):
    """The file holds more packets than `max_packets`."""

    code = "packet_limit"


class StreamLimit(VideoError):
    """The container holds more streams than `max_streams`."""

    code = "stream_limit"


class FrameLimit(VideoError):
    """More frames than `max_decoded_frames` would have to be decoded."""

    code = "frame_limit"


class DecodeTimeout(VideoError):
    """Decoding took longer than `decode_timeout_s`."""

    code = "decode_timeout"


class DecodeCpuLimit(VideoError):
    """Decoding used more CPU seconds than `decode_cpu_s`."""

    code = "decode_cpu_limit"


class DecodeMemoryLimit(VideoError):
    """Decoding needs more address space than `decode_memory_bytes`."""

    code = "decode_memory_limit"


class DecoderCrash(VideoError):
    """The decode process ended by a signal or without a report."""

    code = "decoder_crash"


class TooManyClips(VideoError):
    """The requested windows times crops exceed `max_clips_per_job`."""

    code = "too_many_clips"


# --- the service -------------------------------------------------------------------------------------------------


class InternalError(ServiceError):
    """A fault of the service itself."""

    code = "internal_error"


class SandboxMissing(ServiceError):
    """This machine does not shut decode processes in as `decode_sandbox` requires."""

    code = "sandbox_missing"


class PartitionsChanged(ServiceError):
    """The queue in Redis has another number of partitions than `queue_partitions` says."""

    code = "partitions_changed"


class QueueFull(TemporaryError):
    """The clip queue has no capacity for this job now."""

    code = "queue_full"
    share_of = ""
    """what the caller has used up its share of; empty where others have taken all, or it is not known"""


class BackendUnavailable(TemporaryError):
    """No worker serves any model now, or the inference backend cannot be reached."""

    code = "backend_unavailable"


class BackendFailed(ServiceError):
    """The inference backend refused or failed the clip for good."""

    code = "backend_failed"


class QueueUnavailable(TemporaryError):
    """Redis cannot be reached, or is out of memory."""

    code = "queue_unavailable"


class DiskFull(TemporaryError):
    """The spool directory has no space for the upload."""

    code = "disk_full"


class Draining(TemporaryError):
    """The process is shutting down."""

    code = "draining"


class InvalidKeys(ServiceError):
    """The list of API keys cannot be read, or an entry of it is wrong."""

    code = "invalid_keys"


class DeadlineExceeded(ServiceError):
    """The job's deadline passed before its result."""

    code = "deadline_exceeded"


def _subclasses(cls: type[VidtrError]) -> list[type[VidtrError]]:
    return [cls, *(deep for sub in cls.__subclasses__() for deep in _subclasses(sub))]


def error_types() -> dict[str, type[VidtrError]]:
    """Every error class by its code. The families have none of their own."""
    return {cls.code: cls for cls in _subclasses(VidtrError) if cls is not VidtrError and "code" in vars(cls)}


def error_from_dict(data: dict[str, Any]) -> VidtrError:
    """Rebuild the error that `VidtrError.to_dict` wrote; a code this version does not know becomes InternalError."""
    cls = error_types().get(data["code"], InternalError)
    return _rebuild(cls, data["detail"], data.get("limit"), data.get("actual"), data.get("retry_after_s"))
