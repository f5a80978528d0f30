"""What the service itself cannot do, for now or at all."""

from __future__ import annotations

from service.errors.families import ServiceError, TemporaryError


class InternalError(ServiceError):
    """A fault of the service itself."""

    code = "internal_error"


class UnexpectedAnswer(ServiceError):
    """What answers is not this service, or not only: a log-in page, a redirect, another program. Only clients raise
    this."""

    code = "unexpected_answer"


class SandboxMissing(ServiceError):
    """This machine does not shut decode processes in as `decode_sandbox` requires."""

    code = "sandbox_missing"


class PrecisionUnavailable(ServiceError):
    """The engine cannot compute a model in the arithmetic that `engine_precision` names."""

    code = "precision_unavailable"


class PartitionsChanged(ServiceError):
    """The queue in Redis has another number of partitions than `queue_partitions` says."""

    code = "partitions_changed"


class QueueFull(TemporaryError):
    """The clip queue has no capacity for this job now."""

    code = "queue_full"
    share_of = ""
    """what the caller has used up its share of; empty where others have taken all, or it is not known"""


class EvidenceUnavailable(TemporaryError):
    """No live worker of the model can leave frames out of a clip: they are all of an earlier release."""

    code = "evidence_unavailable"


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


class InvalidSigningKey(ServiceError):
    """A file of keys that answers are signed with, or checked with, cannot be used."""

    code = "invalid_signing_key"


class DeadlineExceeded(ServiceError):
    """The job's deadline passed before its result."""

    code = "deadline_exceeded"
