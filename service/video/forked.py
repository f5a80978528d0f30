"""One process for one upload: forked from a decode process, locked in, gone when the upload is decoded."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from service.contracts import DecodedVideo, JobRequest, ModelSpec
from service.errors import InternalError, VidtrError, error_from_dict
from service.video import child
from service.video.config import DecodeConfig
from service.video.crash import crash
from service.video.sandbox import allow, bind_to_parent, lock_in

_REPORT_BYTES = 64 * 1024 * 1024
_READ_BYTES = 1 << 16


class HeldFile:
    """An open file in the place of a path, for a process that may open nothing."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def open(self, mode: str) -> IO[bytes]:
        """The file from its beginning; one at a time is read, since all share a position."""
        file = os.fdopen(os.dup(self._descriptor), mode)
        file.seek(0)
        return file


@dataclass(frozen=True)
class _Ended:
    """A forked process that is gone.

    Attributes:
        report: what its work returned, as JSON.
        code: its exit status; a negative one is a signal.
        cpu_s: the CPU seconds that it used.
    """

    report: bytes
    code: int
    cpu_s: float


def _fork(work: Callable[[], dict[str, Any]], keep: tuple[int, ...] = ()) -> _Ended:
    """Do `work` in a forked process in which no files but those in `keep` are open."""
    report, answer = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _work(work, answer, parent, keep)
    os.close(answer)
    chunks, size = [], 0
    try:
        while size < _REPORT_BYTES and (chunk := os.read(report, _READ_BYTES)):
            chunks.append(chunk)
            size += len(chunk)
    finally:
        os.close(report)
        if size >= _REPORT_BYTES:
            os.kill(pid, signal.SIGKILL)
        _, status, used = os.wait4(pid, 0)
    return _Ended(b"".join(chunks), os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime)


def _work(work: Callable[[], dict[str, Any]], answer: int, parent: int, keep: tuple[int, ...]) -> NoReturn:
    code = 1
    try:
        bind_to_parent(parent)
        _close_others({answer, *keep})
        data = json.dumps(work()).encode()
        while data:
            data = data[os.write(answer, data) :]
        code = 0
    finally:
        # Nothing of the parent is to be flushed or torn down twice.
        os._exit(code)


def _close_others(keep: set[int]) -> None:
    """Close all files but those in `keep` and the standard streams: among them are the pipes of the pool."""
    last = 2
    for descriptor in sorted(keep):
        os.closerange(last + 1, descriptor)
        last = descriptor
    os.closerange(last + 1, os.sysconf("SC_OPEN_MAX"))


def layers_of_a_fork() -> list[str]:
    """Names of what shuts in a fork on this machine."""
    ended = _fork(lambda: {"layers": lock_in()})
    return [str(name) for name in json.loads(ended.report)["layers"]]


def decode_in_fork(path: Path, out: Path, spec: ModelSpec, request: JobRequest, config: DecodeConfig) -> DecodedVideo:
    """`decode_file` in a process that holds these two files, may open no other, and ends with the upload.

    Raises:
        DecodeCpuLimit, DecodeMemoryLimit, DecoderCrash: it used up what it may use, or its process ended.
        VidtrError: whatever `decode_file` found.
    """
    upload = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        clips = os.open(out, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:

            def work() -> dict[str, Any]:
                allow(config.decode_cpu_s, config.max_clips_per_job * spec.clip_bytes)
                lock_in()
                try:
                    decoded = child.decode_or_explain(HeldFile(upload), HeldFile(clips), spec, request, config)
                except VidtrError as error:
                    return {"error": error.to_dict()}
                return {"decoded": decoded.model_dump(mode="json")}

            ended = _fork(work, keep=(upload, clips))
        finally:
            os.close(clips)
    finally:
        os.close(upload)
    if ended.code == 0:
        return _read(ended.report)
    raise crash(ended.code, config, ended.cpu_s)


def _read(report: bytes) -> DecodedVideo:
    # The fork parsed untrusted bytes: what it says is checked, never unpickled.
    try:
        answer = json.loads(report)
        if "error" in answer:
            raise error_from_dict(answer["error"])
        return DecodedVideo.model_validate(answer["decoded"])
    except (ValueError, KeyError, TypeError) as error:
        raise InternalError("The decode process reported something unreadable.") from error
