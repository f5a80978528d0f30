"""What the client does next while it sends a video in pieces."""

import hashlib
import io
from typing import Any

import httpx
import pytest

from service.api.problems import problem
from service.client.client_errors import Reply
from service.client.request_flow import RequestFlow
from service.client.resumable_flow import send_in_pieces
from service.client.retries import Retry
from service.client.steps import Compute, Progress, Send, Sleep, Step, no_progress
from service.client.uploads import Upload
from service.errors import ChecksumMismatch, DiskFull, UploadOffsetMismatch

DATA = bytes(range(100))
PATH = "/v1/uploads/" + "0" * 32
BEGUN = Reply(201, httpx.Headers({"Location": PATH}), b"")
DONE = Reply(204, httpx.Headers(), b"")
CUT = httpx.WriteError("cut")
Said = list[tuple[str, str, str, bytes]]


def status(offset: int) -> Reply:
    body = f'{{"id": "{"0" * 32}", "length": 100, "offset": {offset}, "expires_at": 0}}'
    return Reply(200, httpx.Headers(), body.encode())


def refusal(error: Any) -> Reply:
    response = problem(error, "r1")
    return Reply(response.status_code, response.headers, bytes(response.body))


def carried_out(answers: list[Reply | Exception], retry: Retry | None = None, progress: Any = no_progress) -> Said:
    """The requests of a flow that is given these answers. Raises what the flow raises."""
    said: Said = []
    clock = iter(range(1000))
    flow = send_in_pieces(RequestFlow(retry or Retry()), Upload(io.BytesIO(DATA)), progress, lambda: next(clock))
    step: Step = next(flow)
    left = iter(answers)
    try:
        while True:
            if isinstance(step, Sleep):
                step = flow.send(None)
            elif isinstance(step, Compute):
                step = flow.send(step.run())
            else:
                said.append(_read(step))
                answer = next(left)
                step = flow.throw(answer) if isinstance(answer, Exception) else flow.send(answer)
    except StopIteration:
        return said


def _read(step: Send) -> tuple[str, str, str, bytes]:
    body = b"" if step.upload is None else b"".join(step.upload.chunks(step.report))
    assert step.all_headers().get("Content-Length", str(len(body))) == str(len(body))
    return step.method, step.path, step.headers.get("Upload-Offset", ""), body


def test_all_goes_in_one_piece_where_nothing_is_cut() -> None:
    assert carried_out([BEGUN, DONE]) == [("POST", "/v1/uploads", "", b""), ("PATCH", PATH, "0", DATA)]


def test_after_a_cut_the_rest_is_sent() -> None:
    said = carried_out([BEGUN, CUT, status(30), CUT, status(70), DONE])
    assert said[1:] == [
        ("PATCH", PATH, "0", DATA),
        ("GET", PATH, "", b""),
        ("PATCH", PATH, "30", DATA[30:]),
        ("GET", PATH, "", b""),
        ("PATCH", PATH, "70", DATA[70:]),
    ]


def test_a_cut_after_the_last_byte_needs_nothing_more() -> None:
    assert [each[0] for each in carried_out([BEGUN, CUT, status(100)])] == ["POST", "PATCH", "GET"]


def test_what_arrives_counts_as_progress_of_the_whole() -> None:
    seen: list[Progress] = []
    carried_out([BEGUN, CUT, status(30), DONE], progress=seen.append)
    assert seen[-1] == Progress("upload", 100, 100)


def test_a_line_that_moves_on_a_little_each_time_is_not_given_up() -> None:
    answers = [reply for offset in range(1, 100) for reply in (CUT, status(offset))]
    assert len(carried_out([BEGUN, *answers, DONE], Retry(for_s=10.0))) == 200


def test_a_line_that_moves_nothing_is_given_up_and_what_arrived_is_erased() -> None:
    answers: list[Reply | Exception] = [BEGUN]
    for _ in range(50):
        answers += [CUT, status(0)]
    with pytest.raises(httpx.WriteError):
        carried_out(answers, Retry(for_s=10.0))


def test_another_offset_than_was_known_is_asked_for() -> None:
    mismatch = refusal(UploadOffsetMismatch("go on at 30", limit=30, actual=0))
    assert carried_out([BEGUN, mismatch, status(30), DONE])[-1] == ("PATCH", PATH, "30", DATA[30:])


def test_a_full_disk_is_waited_for() -> None:
    assert carried_out([BEGUN, refusal(DiskFull("full", retry_after_s=1)), status(0), DONE])[-1][3] == DATA


def test_a_video_that_arrived_otherwise_is_an_error_and_erased() -> None:
    said: list[str] = []
    flow = send_in_pieces(RequestFlow(Retry()), Upload(DATA), no_progress, lambda: 0.0)
    step: Step = next(flow)
    assert isinstance(step, Compute)
    assert step.run() == hashlib.sha256(DATA).hexdigest()
    step = flow.send(step.run())
    flow.send(BEGUN)
    step = flow.send(refusal(ChecksumMismatch("other bytes")))
    assert isinstance(step, Send)
    said.append(f"{step.method} {step.path}")
    with pytest.raises(ChecksumMismatch):
        flow.send(DONE)
    assert said == [f"DELETE {PATH}"]


def test_a_stream_that_cannot_be_rewound_is_not_sent_in_pieces() -> None:
    class Pipe(io.RawIOBase):
        def seekable(self) -> bool:
            return False

    flow = send_in_pieces(RequestFlow(Retry()), Upload(Pipe()), no_progress, lambda: 0.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rewound"):
        next(flow)
