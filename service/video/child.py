"""What runs in a decode process. Only there is FFmpeg loaded: the process that serves requests never parses uploads."""

from __future__ import annotations

import errno
import os
from multiprocessing.synchronize import Semaphore
from pathlib import Path

from service.contracts import DecodedVideo, JobRequest, ModelSpec
from service.errors import DecodeResources, InternalError, VidtrError
from service.video.config import DecodeConfig
from service.video.sandbox import allow, bind_to_parent, confine


def initialise(config: DecodeConfig, parent: int, ready: Semaphore) -> None:
    """Prepare the process for its first upload, then report on `ready`."""
    bind_to_parent(parent)
    # The BLAS behind numpy reserves address space for every core of the machine, and none of it is used here.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    # PyAV loads the first two while it opens a file; that has to happen before memory is limited.
    import av.audio.stream
    import av.subtitles.stream  # noqa: F401

    import service.video.clips  # noqa: F401

    confine(config.decode_memory_bytes)
    ready.release()


def decode(path: Path, out: Path, spec: ModelSpec, request: JobRequest, config: DecodeConfig) -> DecodedVideo:
    """`decode_file` under the limits of the process. Only exceptions of `service.errors` leave it.

    FFmpeg's own exceptions do not survive pickling, and one that fails to would take the whole pool down.
    """
    from service.video.clips import decode_file

    allow(config.decode_cpu_s, config.max_clips_per_job * spec.clip_bytes)
    try:
        return decode_file(path, out, spec, request, config)
    except VidtrError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            raise DecodeResources(
                f"Decoding needs more than the {config.decode_memory_bytes} bytes of memory that it may use.",
                limit=config.decode_memory_bytes,
            ) from error
        raise InternalError(f"Decoding failed unexpectedly ({type(error).__name__}: {error}).") from error
