"""The fork server: a process that has FFmpeg and all modules in memory, and forks sandbox workers.

Only there and in sandbox workers is FFmpeg loaded: the process that serves requests never parses uploads, nor does this
one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib
import json
import os
import pickle
import pkgutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import IO, Any

from service.contracts import ClipSpec, DecodedVideo, JobRequest
from service.errors import DecodeMemoryLimit, Undecodable, VidtrError
from service.steady_heap import keep_apart
from service.video import sandbox_child
from service.video.advice import CONVERT
from service.video.config import DecodeConfig
from service.video.decode_report import report_of
from service.video.fault_report import report_fault
from service.video.live_input import LiveInput
from service.video.live_report import LiveAsked, said
from service.video.progress import Tell
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
    keep_apart()
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
    import numpy.ma  # noqa: F401

    import service.video.clips
    import service.video.live_decode  # noqa: F401
    from service.video.warmup import warm_up

    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    warm_up()
    confine(config.decode_memory_bytes)

    def work(upload: sandbox_child.Source, clips: sandbox_child.FdFile, task: bytes, tell: Tell) -> dict[str, Any]:
        if isinstance(upload, LiveInput):
            return live_or_explain(upload, clips, task, config, tell)
        try:
            spec, request, told = read_task(task)
            return report_of(decode_or_explain(upload, clips, spec, request, config, tell if told else None))
        except VidtrError as error:
            return report_of(error)

    return work


def task_of(spec: ClipSpec, request: JobRequest, *, told: bool = False) -> bytes:
    """As JSON: to unpickle something, a sandbox worker might have to load a module, which it cannot.

    `told` asks for progress, see `service.video.progress`.
    """
    # Of the request no more than the base class has: a class of another package has fields that a sandbox
    # worker does not know.
    parts = spec.model_dump_json(include=_CLIP), request.model_dump_json(include=_OPTIONS), json.dumps(told)
    return "\n".join(parts).encode()


def read_task(task: bytes) -> tuple[ClipSpec, JobRequest, bool]:
    """The inverse of `task_of`."""
    spec, request, told = task.split(b"\n")
    return ClipSpec.model_validate_json(spec), JobRequest.model_validate_json(request), bool(json.loads(told))


def decode_or_explain(
    path: Any, out: Any, spec: ClipSpec, request: JobRequest, config: DecodeConfig, tell: Tell | None = None
) -> DecodedVideo:
    """`decode_file`, raising nothing but VidtrError."""
    from service.video.clips import decode_file

    with _explained("file", config):
        return decode_file(path, out, spec, request, config, tell)


def live_or_explain(
    source: LiveInput, out: Any, task: bytes, config: DecodeConfig, tell: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """What is to be said at the end of `decode_live`, whatever that is."""
    from service.video.live_decode import decode_live

    try:
        with _explained("stream", config):
            asked = LiveAsked.model_validate_json(task)
            return said(decode_live(source, out, asked, config, lambda found: tell(said(found))))
    except VidtrError as error:
        return said(error)


@contextlib.contextmanager
def _explained(what: str, config: DecodeConfig) -> Iterator[None]:
    """Every error of decoding as a VidtrError."""
    try:
        yield
    except VidtrError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            raise DecodeMemoryLimit(
                f"Decoding needs more than the {config.decode_memory_bytes} bytes of memory that it may use.",
                limit=config.decode_memory_bytes,
            ) from error
        # What is written here goes into the log. The file made the decoder fail, and would do so again.
        report_fault(error)
        raise Undecodable(
            f"The decoder failed on this {what} in an unforeseen way ({type(error).__name__}: {error}). {CONVERT}.",
            actual=type(error).__name__,
        ) from error
