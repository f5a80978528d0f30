"""What the client does next, without a server and without waiting: flows are carried out by hand."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.api.problems import STATUS, problem
from service.api.schemas import RESULT_EXAMPLE
from service.client.client_errors import Reply, error_of
from service.client.request_flow import Progress, RequestFlow, Send, Sleep, Steps, no_progress
from service.client.retries import Retry, retry_after_s
from service.client.uploads import Upload
from service.errors import (
    DeadlineExceeded,
    InternalError,
    InvalidOption,
    JobDeleted,
    QueueFull,
    QuotaExceeded,
    RequestError,
    ServiceError,
    TemporaryError,
    VideoError,
    VideoTooShort,
    error_types,
)

JOB = {
    "id": "0" * 32,
    "status": "running",
    "created_at": 0,
    "deadline_at": 1,
    "clips_total": 4,
    "clips_done": 1,
    "model": "camera_motion",
    "version": "1",
}
FULL = problem(QueueFull("full", limit=10, actual=12, retry_after_s=7), "r1")
ANSWER = Reply(200, {}, json.dumps(RESULT_EXAMPLE).encode())


def reply(status: int, body: Any = None, **headers: str) -> Reply:
    return Reply(status, httpx.Headers(headers), b"" if body is None else json.dumps(body).encode())


def refusal(error: Any) -> Reply:
    response = problem(error, "r1")
    return Reply(response.status_code, response.headers, bytes(response.body))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def play(flow: Callable[[RequestFlow], Steps[Any]], *answers: Reply | Exception, retry: Retry | None = None) -> Any:
    """Carry `flow` out against `answers`. Returns its result, its requests and its pauses."""
    clock = Clock()
    steps = flow(RequestFlow(retry or Retry(), clock))
    sent, pauses, left = [], [], list(answers)
    try:
        step = next(steps)
        while True:
            if isinstance(step, Sleep):
                clock.now += step.seconds
                pauses.append(step.seconds)
                step = steps.send(None)
                continue
            sent.append(step)
            answer = left.pop(0)
            step = steps.throw(answer) if isinstance(answer, Exception) else steps.send(answer)
    except StopIteration as done:
        return done.value, sent, pauses


def classify(protocol: RequestFlow) -> Steps[Any]:
    return protocol.classify(Upload(b"video"), {"top_k": 3}, None, no_progress, 100.0)


def test_a_pause_is_never_shorter_than_the_server_asks_for() -> None:
    result, _, pauses = play(classify, refusal(QueueFull("full", retry_after_s=7)), ANSWER)
    assert result.predictions
    assert 7 <= pauses[0] <= 8


def test_all_tries_of_a_request_carry_the_same_key_and_another_request_another() -> None:
    failures = (httpx.ReadError("reset"), httpx.RemoteProtocolError("closed"), httpx.ReadTimeout("silent"))
    _, sent, _ = play(classify, *failures, ANSWER)
    _, others, _ = play(classify, ANSWER)
    keys = {send.headers["Idempotency-Key"] for send in sent}
    assert len(sent) == 4
    assert len(keys) == 1
    assert others[0].headers["Idempotency-Key"] not in keys


def test_pauses_grow_up_to_a_limit() -> None:
    retry = Retry(for_s=1000, first_pause_s=1, longest_pause_s=4)
    _, _, pauses = play(classify, *[httpx.ReadError("reset")] * 5, ANSWER, retry=retry)
    for pause, most in zip(pauses, (1, 2, 4, 4, 4), strict=True):
        assert most / 2 <= pause <= most


def test_after_its_time_the_last_refusal_is_raised_with_what_the_server_said() -> None:
    with pytest.raises(QueueFull) as raised:
        play(classify, *[refusal(QueueFull("full", limit=10, actual=12, retry_after_s=50))] * 3, retry=Retry(for_s=120))
    error = raised.value
    assert (error.detail, error.limit, error.actual, error.retry_after_s) == ("full", 10, 12, 50)
    assert error.request_id == "r1"


def test_a_pause_that_ends_too_late_is_not_begun() -> None:
    with pytest.raises(QueueFull):
        play(classify, refusal(QueueFull("full", retry_after_s=121)), retry=Retry(for_s=120))


def test_a_server_that_cannot_be_reached_is_given_up_earlier_than_a_busy_one() -> None:
    with pytest.raises(httpx.ConnectError):
        play(classify, *[httpx.ConnectError("refused")] * 20, retry=Retry(for_s=1000, unreachable_s=10))


@pytest.mark.parametrize("error", [VideoTooShort("short"), InvalidOption("bad"), InternalError("fault")])
def test_an_error_that_will_not_pass_is_raised_at_once(error: Any) -> None:
    with pytest.raises(type(error)):
        play(classify, refusal(error))


@pytest.mark.parametrize("error", [httpx.LocalProtocolError("short body"), httpx.UnsupportedProtocol("ftp")])
def test_a_fault_of_ones_own_is_raised_at_once(error: Exception) -> None:
    with pytest.raises(type(error)):
        play(classify, error)


def test_a_quota_without_a_time_is_raised_at_once() -> None:
    with pytest.raises(QuotaExceeded):
        play(classify, refusal(QuotaExceeded("longer than the quota")))


def test_a_stream_that_cannot_be_rewound_is_sent_once() -> None:
    class Pipe:
        def seekable(self) -> bool:
            return False

        def read(self, size: int) -> bytes:
            return b""

    upload = Upload(Pipe())  # type: ignore[arg-type]

    def flow(protocol: RequestFlow) -> Steps[Any]:
        return protocol.classify(upload, {}, None, no_progress, 1.0)

    assert list(upload.chunks(lambda sent, size: None)) == []
    with pytest.raises(httpx.ReadError):
        play(flow, httpx.ReadError("reset"))


def test_a_gateway_that_answers_for_an_absent_service_is_tried_again() -> None:
    result, _, _ = play(classify, reply(502), reply(503), reply(504), ANSWER)
    assert result.predictions


def test_a_job_is_waited_for_and_reported_and_asked_for_less_and_less_often() -> None:
    seen: list[Progress] = []

    def flow(protocol: RequestFlow) -> Steps[Any]:
        return protocol.wait("0" * 32, seen.append, 100.0)

    done = {**JOB, "status": "succeeded", "clips_done": 4, "result": RESULT_EXAMPLE}
    _, _, pauses = play(flow, *[reply(200, JOB)] * 12, reply(200, done))
    assert [p.done for p in seen] == [1] * 12 + [4]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 2.0


def test_waiting_ends_with_its_time() -> None:
    with pytest.raises(TimeoutError, match="still running after 1 s"):
        play(lambda protocol: protocol.wait("0" * 32, no_progress, 1.0), *[reply(200, JOB)] * 20)


@pytest.mark.parametrize(
    ("state", "error", "expected"),
    [
        ("failed", {"code": "video_too_short", "detail": "short"}, VideoTooShort),
        ("cancelled", None, JobDeleted),
        ("expired", None, DeadlineExceeded),
        ("failed", None, ServiceError),
    ],
)
def test_the_end_of_a_job_without_result_is_an_error(state: str, error: Any, expected: type[Exception]) -> None:
    ended = {**JOB, "status": state, "error": error}
    with pytest.raises(expected):
        play(lambda protocol: protocol.wait("0" * 32, no_progress, 1.0), reply(200, ended))


def test_who_gives_up_a_classification_deletes_its_job_and_keeps_his_own_error() -> None:
    def flow(protocol: RequestFlow) -> Steps[Any]:
        return protocol.classify(Upload(b"video"), {}, None, no_progress, 0.0)

    steps = flow(RequestFlow(Retry()))
    next(steps)
    steps.send(reply(202, JOB))
    wish = steps.send(reply(200, JOB))
    assert isinstance(wish, Send)
    assert (wish.method, wish.path, wish.shielded) == ("DELETE", f"/v1/jobs/{JOB['id']}", True)
    with pytest.raises(TimeoutError):
        steps.throw(httpx.ConnectError("gone"))


def test_only_options_that_were_given_are_sent() -> None:
    _, sent, _ = play(classify, ANSWER)
    assert dict(sent[0].params) == {"top_k": "3"}


def test_an_option_that_does_not_exist_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="colour"):
        next(RequestFlow(Retry()).classify(Upload(b""), {"colour": 1}, None, no_progress, 1.0))  # type: ignore[typeddict-unknown-key]


# --- problems ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", STATUS)
def test_every_problem_becomes_the_class_of_its_code(code: str) -> None:
    error = error_of(refusal(error_types()[code]("what happened", limit=1, actual=2)))
    assert type(error) is error_types()[code]
    assert error is not None
    assert (error.code, error.detail, error.limit, error.actual) == (code, "what happened", 1, 2)


@pytest.mark.parametrize("code", STATUS)
def test_every_code_belongs_to_one_family_and_its_status_fits(code: str) -> None:
    families = {RequestError, VideoError, TemporaryError, ServiceError}
    [family] = [family for family in families if issubclass(error_types()[code], family)]
    allowed = {
        RequestError: range(400, 500),
        VideoError: (415, 422),
        TemporaryError: (408, 409, 429, 503),
        ServiceError: (500, 504),
    }
    assert STATUS[code] in allowed[family]


@pytest.mark.parametrize(
    ("status", "headers", "family"),
    [(422, {}, RequestError), (500, {}, ServiceError), (503, {"Retry-After": "3"}, TemporaryError)],
)
def test_a_code_of_a_newer_server_keeps_its_name_and_finds_a_family(
    status: int, headers: dict[str, str], family: type[Exception]
) -> None:
    error = error_of(reply(status, {"code": "from_the_future", "detail": "?", "limit": 3}, **headers))
    assert isinstance(error, family)
    assert error is not None
    assert (error.code, error.limit) == ("from_the_future", 3)


@pytest.mark.parametrize(("status", "family"), [(404, RequestError), (500, ServiceError), (302, RequestError)])
@pytest.mark.parametrize("body", [None, [], {"code": 1}, "text"])
def test_an_answer_that_is_no_problem_document_is_still_an_error(
    status: int, family: type[Exception], body: Any
) -> None:
    assert isinstance(error_of(reply(status, body)), family)


# --- Retry-After -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("header", "seconds"), [("3", 3.0), ("0.5", 0.5), ("-1", 0.0), (None, None), ("soon", None)])
def test_retry_after_is_seconds(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header) == seconds


@pytest.mark.parametrize("header", ["Fri, 01 Jan 2100 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00"])
def test_retry_after_may_be_a_date(header: str) -> None:
    seconds = retry_after_s(header)
    assert seconds is not None
    assert seconds > 1e9


def test_a_date_that_is_past_asks_for_no_pause() -> None:
    assert retry_after_s("Thu, 01 Jan 1970 00:00:00 GMT") == 0.0
