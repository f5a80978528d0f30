"""What runs in a decode process. Only there is FFmpeg loaded: the process that serves requests never parses uploads.

On Linux the process of the pool does not parse them either. It opens the two files of an upload and hands them to a
cell: a fork of its own that has locked itself in, decodes, and reports as JSON. So no upload meets that of another
caller, or any other, whatever it does to the decoder.
"""

from __future__ import annotations

import errno
import gc
import importlib
import os
import pkgutil
import sys
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from typing import Any

from service.contracts import DecodedVideo, JobRequest, ModelSpec
from service.errors import DecodeMemoryLimit, InternalError, VidtrError
from service.video.config import DecodeConfig
from service.video.sandbox import allow, bind_to_parent, confine, leave_network

HAS_CELLS = sys.platform == "linux"

_LAYERS: list[str] = []
_CELLS: list[Any] = []


def initialise(config: DecodeConfig, parent: int, ready: Semaphore) -> None:
    """Prepare the process for its first upload, then report on `ready`."""
    if leave_network():
        _LAYERS.append("network namespace")
    bind_to_parent(parent)
    # The BLAS behind numpy reserves address space for every core of the machine, and none of it is used here.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    # numpy and PyAV load these when they need them; that has to happen before memory is limited and files are denied.
    import mmap  # noqa: F401

    import av

    import service.video.clips  # noqa: F401
    from service.video.warmup import warm_up

    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    warm_up()
    # A collection in a fork would touch, and so copy, every page that it shares with this process.
    gc.collect()
    gc.freeze()
    confine(config.decode_memory_bytes)
    if HAS_CELLS:
        from service.video.cell import Cells, read_task

        def work(upload: Any, clips: Any, task: bytes) -> dict[str, Any]:
            try:
                return {"decoded": decode_or_explain(upload, clips, *read_task(task), config).model_dump(mode="json")}
            except VidtrError as error:
                return {"error": error.to_dict()}

        _CELLS.append(Cells(work, 1 if config.decode_isolation == "upload" else config.decode_recycle_after))
    ready.release()


def active_layers(config: DecodeConfig) -> list[str]:
    """What a decode of this process is shut in by, beyond limits of memory, CPU seconds, files and wall-clock time."""
    if not _CELLS:
        return list(_LAYERS)
    return [f"process per {config.decode_isolation}", *_LAYERS, *_CELLS[0].layers()]


def decode(
    path: Path, out: Path, spec: ModelSpec, request: JobRequest, config: DecodeConfig, caller: str
) -> DecodedVideo:
    """`decode_file` under the limits of the process. Only exceptions of `service.errors` leave it.

    FFmpeg's own exceptions do not survive pickling, and one that fails to would take the whole pool down.
    """
    if _CELLS:
        from service.video.cell import decode_in_cell

        return decode_in_cell(_CELLS[0], path, out, spec, request, config, caller)
    allow(config.decode_cpu_s, config.max_clips_per_job * spec.clip_bytes)
    return decode_or_explain(path, out, spec, request, config)


def decode_or_explain(path: Any, out: Any, spec: ModelSpec, request: JobRequest, config: DecodeConfig) -> DecodedVideo:
    """`decode_file`, raising nothing but VidtrError."""
    from service.video.clips import decode_file

    try:
        return decode_file(path, out, spec, request, config)
    except VidtrError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            raise DecodeMemoryLimit(
                f"Decoding needs more than the {config.decode_memory_bytes} bytes of memory that it may use.",
                limit=config.decode_memory_bytes,
            ) from error
        raise InternalError(f"Decoding failed unexpectedly ({type(error).__name__}: {error}).") from error
