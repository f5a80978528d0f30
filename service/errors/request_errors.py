"""What is wrong with a request, its upload or its source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.errors.families import Number, RequestError, TemporaryError, sentence


@dataclass(frozen=True)
class BadLine:
    """What is wrong with one line of a manifest: its number, from 1, and what an error says."""

    line: int
    detail: str
    limit: Number | str | None = None
    actual: Number | str | None = None


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


class Forbidden(RequestError):
    """A proxy or firewall in front of the service refuses the request. Only clients raise this."""

    code = "forbidden"


class InvalidOption(RequestError):
    """A query option is unknown or out of range."""

    code = "invalid_option"


class EvidenceTooLarge(RequestError):
    """The evidence that is asked for takes more than `max_evidence_forwards` clips with frames left out."""

    code = "evidence_too_large"


class SpatialAttentionTooLarge(RequestError):
    """The attention in space that is asked for has more than `max_spatial_cells` numbers."""

    code = "spatial_attention_too_large"


class EmptyUpload(RequestError):
    """The upload has no bytes."""

    code = "empty_upload"


class UploadTooLarge(RequestError):
    """The body is larger than `max_upload_bytes`, or a manifest than `max_manifest_bytes`."""

    code = "upload_too_large"


class UnsupportedMediaType(RequestError):
    """The request's Content-Type is neither multipart/form-data nor video/* nor application/octet-stream."""

    code = "unsupported_media_type"


class UploadTimeout(TemporaryError):
    """The body arrived too slowly: a pause of `upload_idle_s`, less than `upload_min_bytes_per_s` on average, or more
    than `upload_timeout_s` in all."""

    code = "upload_timeout"


class SourceNotAllowed(RequestError):
    """Nothing is fetched from this URL: its host, its address or its form is not allowed."""

    code = "source_not_allowed"


class SourceRefused(RequestError):
    """The server of a source does not give it, or not in a way that can be used."""

    code = "source_refused"


class SourceChanged(RequestError):
    """A source became another file while it was read."""

    code = "source_changed"


class SourceLimit(RequestError):
    """Reading a source takes more bytes, requests or time than `source_max_bytes` and its like allow."""

    code = "source_limit"


class SourceUnavailable(TemporaryError):
    """The server of a source cannot be reached, or breaks off."""

    code = "source_unavailable"


class UnknownUpload(RequestError):
    """No resumable upload has this id, or it has expired."""

    code = "unknown_upload"


class UploadOffsetMismatch(RequestError):
    """A piece of a resumable upload does not go on where the upload stands."""

    code = "upload_offset_mismatch"


class UploadIncomplete(RequestError):
    """A resumable upload is to be classified before all of it has arrived."""

    code = "upload_incomplete"


class UploadLocked(TemporaryError):
    """Another request is sending the same resumable upload."""

    code = "upload_locked"


class ChecksumMismatch(RequestError):
    """What arrived of a resumable upload is not what its checksum says."""

    code = "checksum_mismatch"


class TusVersion(RequestError):
    """The request speaks another version of the protocol of resumable uploads."""

    code = "tus_version"


class TooManyUploads(TemporaryError):
    """The caller has `max_resumable_uploads` that have neither expired nor been deleted."""

    code = "too_many_uploads"


class InvalidManifest(RequestError):
    """Lines of a manifest are wrong, or it has none, or too many."""

    code = "invalid_manifest"
    lines: tuple[BadLine, ...] = ()
    """the first of the lines that are wrong"""

    @classmethod
    def of(cls, bad: Sequence[BadLine], *, most: int) -> InvalidManifest:
        """The error for lines that are wrong, of which `most` are told."""
        told, more = bad[:most], max(0, len(bad) - most)
        rest = f" {more} more lines are wrong." if more else ""
        said = " ".join(f"Line {line.line}: {sentence(line.detail)}" for line in told)
        noun = "line is" if len(bad) == 1 else "lines are"
        detail = f"{len(bad)} {noun} not valid, so no line was accepted. {sentence(said + rest)}"
        error = cls(detail, limit=0, actual=len(bad))
        error.lines = tuple(told)
        return error


class TooManyBatches(TemporaryError):
    """The caller has `max_open_batches` that have not ended."""

    code = "too_many_batches"


class UnknownBatch(RequestError):
    """No batch has this id, or it has expired."""

    code = "unknown_batch"


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


class ResultNotReady(TemporaryError):
    """The job has not ended, so that there is nothing to export yet."""

    code = "result_not_ready"


class NothingToExport(RequestError):
    """The answer has no events, or no shots, which the format is made of."""

    code = "nothing_to_export"


class UnknownStream(RequestError):
    """No live stream has this id, or it is forgotten."""

    code = "unknown_stream"


class StreamEnded(RequestError):
    """The live stream takes no more: it has ended."""

    code = "stream_ended"


class StreamOffsetMismatch(RequestError):
    """A piece of a live stream begins after what has arrived of it."""

    code = "stream_offset_mismatch"


class StreamBusy(TemporaryError):
    """Another request is sending the same live stream."""

    code = "stream_busy"
