"""The fork server: a process that has FFmpeg and all modules in memory, and forks sandbox workers.

Only there and in sandbox workers is FFmpeg loaded: the process that serves requests never parses uploads, nor does this
one.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import importlib
import json
import os
import pickle
import pkgutil
import signal
import socket
import sys
from collections.abc import Callable
from typing import IO, Any

from service.contracts import ClipSpec, DecodedVideo, JobRequest
from service.errors import DecodeMemoryLimit, InternalError, VidtrError
from service.video import sandbox_child
from service.video.config import DecodeConfig
from service.video.decode_report import report_of
from service.video.sandbox import bind_to_parent, confine, leave_network

_CLIP, _OPTIONS = set(ClipSpec.model_fields), set(JobRequest.model_fields)

# Called once in the fork server, before the first sandbox worker: loads what all need, and returns their work.
Prepare = Callable[[], sandbox_child.Work]


# Unread output that a sandbox worker may leave; more is dropped, as none of it is needed.
_OUTPUT_BYTES = 1 << 14


def main(control: int, parent: int) -> None:
    """Be the fork server of the process `parent` at the other end of `control`, until that is closed."""
    connection = socket.socket(fileno=control)
    with connection.makefile("rb") as requests:
        # By the process that started this one, which is trusted; what sandbox workers say is never unpickled.
        prepare: Prepare = pickle.load(requests)  # noqa: S301
        serve(prepare, connection, requests, parent)


def serve(prepare: Prepare, control: socket.socket, requests: IO[bytes], parent: int) -> None:
    """Fork sandbox workers, and end them, as `requests` ask; `control` takes the answers."""
    sandbox_layers = ["network namespace"] if leave_network() else []
    bind_to_parent(parent)
    work = prepare()
    # A collection in a fork would touch, and so copy, every page that it shares with this process.
    gc.collect()
    gc.freeze()
    _answer(control, {"layers": sandbox_layers})
    for line in requests:
        pid = json.loads(line)
        if pid is None:
            pid, worker, output = fork_worker(work)
            with worker:
                _answer(control, {"pid": pid}, worker.fileno(), output)
            os.close(output)
        else:
            _answer(control, end_worker(pid))


def fork_worker(work: sandbox_child.Work) -> tuple[int, socket.socket, int]:
    """A new sandbox worker: its process id, a connection to it, and a pipe of all that it writes elsewhere."""
    ours, theirs = socket.socketpair()
    output, written = _pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        for stream in (1, 2):
            os.dup2(written, stream)
        sandbox_child.serve(work, theirs, parent)
    theirs.close()
    os.close(written)
    return pid, ours, output


def _pipe() -> tuple[int, int]:
    """A pipe that blocks neither end: output that does not fit is dropped."""
    output, written = os.pipe()
    for end in (output, written):
        os.set_blocking(end, False)
    if sys.platform == "linux":
        fcntl.fcntl(written, fcntl.F_SETPIPE_SZ, _OUTPUT_BYTES)
    return output, written


def end_worker(pid: int) -> dict[str, Any]:
    """Kill a sandbox worker of this process; how it ended, if it had ended before, and how much CPU it used in all."""
    # Its process id is its own until it is waited for here.
    os.kill(pid, signal.SIGKILL)
    _, status, used = os.wait4(pid, 0)
    return {"code": os.waitstatus_to_exitcode(status), "cpu_s": used.ru_utime + used.ru_stime}


def _answer(control: socket.socket, answer: dict[str, Any], *descriptors: int) -> None:
    socket.send_fds(control, [json.dumps(answer).encode() + b"\n"], descriptors)


def prepare_decoder(config: DecodeConfig) -> sandbox_child.Work:
    """Load what decoding needs, take on its limits, and return what a sandbox worker does with an upload."""
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
    confine(config.decode_memory_bytes)

    def work(upload: sandbox_child.FdFile, clips: sandbox_child.FdFile, task: bytes) -> dict[str, Any]:
        try:
            return report_of(decode_or_explain(upload, clips, *read_task(task), config))
        except VidtrError as error:
            return report_of(error)

    return work


def task_of(spec: ClipSpec, request: JobRequest) -> bytes:
    """As JSON: to unpickle something, a sandbox worker might have to load a module, which it cannot."""
    # Of the request no more than the base class has: a class of another package has fields that a sandbox
    # worker does not know.
    return spec.model_dump_json(include=_CLIP).encode() + b"\n" + request.model_dump_json(include=_OPTIONS).encode()


def read_task(task: bytes) -> tuple[ClipSpec, JobRequest]:
    """The inverse of `task_of`."""
    spec, _, request = task.partition(b"\n")
    return ClipSpec.model_validate_json(spec), JobRequest.model_validate_json(request)


def decode_or_explain(path: Any, out: Any, spec: ClipSpec, request: JobRequest, config: DecodeConfig) -> DecodedVideo:
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
