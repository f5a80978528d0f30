"""What the client does next, without a server and without waiting: flows are carried out by hand."""

import json
from collections.abc import Callable
from typing import Any, get_args

import httpx
import pytest
from httpx_sse import ServerSentEvent

from service.api.openapi_examples import RESULT_EXAMPLE
from service.api.problems import STATUS, problem
from service.client.classify_events import ClassifyEvents
from service.client.client_errors import Reply, error_of
from service.client.job_events import JobEventReader, is_event_stream
from service.client.request_flow import Exported, ExportFormat, RequestFlow
from service.client.retries import Retry, retry_after_s
from service.client.steps import Progress, Send, Sleep, Steps, no_progress
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
    UnexpectedAnswer,
    VideoError,
    VideoTooShort,
    error_types,
)
from service.exports.formats import FORMATS
from service.exports.spans import KINDS

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
        TemporaryError: (408, 409, 423, 429, 502, 503),
        ServiceError: (500, 502, 504),
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


@pytest.mark.parametrize(("status", "family"), [(404, RequestError), (500, ServiceError), (302, ServiceError)])
@pytest.mark.parametrize("body", [None, [], {"code": 1}, "text"])
def test_an_answer_that_is_no_problem_document_is_still_an_error(
    status: int, family: type[Exception], body: Any
) -> None:
    assert isinstance(error_of(reply(status, body)), family)


@pytest.mark.parametrize(
    ("status", "code", "passes"),
    [
        (400, "malformed_request", False),
        (401, "unauthorized", False),
        (403, "forbidden", False),
        (404, "not_found", False),
        (405, "method_not_allowed", False),
        (407, "unauthorized", False),
        (408, "upload_timeout", True),
        (413, "upload_too_large", False),
        (414, "url_too_long", False),
        (429, "quota_exceeded", True),
        (431, "headers_too_large", False),
        (500, "internal_error", False),
        (502, "backend_unavailable", True),
        (503, "backend_unavailable", True),
        (504, "backend_unavailable", True),
        (520, "backend_unavailable", True),
        (530, "backend_unavailable", True),
    ],
)
def test_the_page_of_a_proxy_is_named_by_its_status_and_tried_again_where_it_may_pass(
    status: int, code: str, passes: bool
) -> None:
    error = error_of(Reply(status, {"content-type": "text/html"}, b"<html>no</html>"))
    assert error is not None
    assert (error.code, error.actual, str(status) in error.detail) == (code, status, True)
    assert (Retry().pause_s(error, 1, 0.0) is not None) is passes


def test_a_proxy_is_left_alone_for_as_long_as_it_asks() -> None:
    page = Reply(429, httpx.Headers({"Retry-After": "7"}), b"<html>slow down</html>")
    _, sent, pauses = play(classify, page, ANSWER)
    assert len(sent) == 2
    assert 7 <= pauses[0] <= 8


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_its_target_named(status: int) -> None:
    with pytest.raises(UnexpectedAnswer, match=r"https://video\.example/v1/classify"):
        play(classify, reply(status, location="https://video.example/v1/classify"))


FLOWS: dict[str, Callable[[RequestFlow], Steps[Any]]] = {
    "classify": classify,
    "submit": lambda flow: flow.submit(Upload(b"video"), {}, None, no_progress),
    "job": lambda flow: flow.job("0" * 32),
    "page": lambda flow: flow.page(None, 10),
    "models": lambda flow: flow.models(),
}


@pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html>Log in</html>"), (200, b'{"ok": true}'), (200, b"[]"), (200, b""), (202, b"{}"), (204, b"")],
)
def test_an_answer_in_other_words_than_the_services_is_an_error_of_its_own(
    flow: Callable[[RequestFlow], Steps[Any]], status: int, body: bytes
) -> None:
    with pytest.raises(UnexpectedAnswer) as raised:
        play(flow, Reply(status, {"content-type": "text/html"}, body))
    assert "text/html" in raised.value.detail
    assert raised.value.actual == status


@pytest.mark.parametrize(
    ("status", "kind", "ends"),
    [(200, "text/html", False), (200, "", False), (302, "text/html", False), (204, "", True)],
)
def test_what_is_no_stream_of_events_is_none(status: int, kind: str, ends: bool) -> None:
    reader = JobEventReader("0" * 32, None, Retry())
    headers = {"content-type": kind} if kind else {}
    assert not is_event_stream(httpx.Response(status, headers=headers))
    if not ends:
        with pytest.raises(UnexpectedAnswer):
            reader.opened(Reply(status, headers, b"<html>"))
    else:
        reader.opened(Reply(status, headers, b""))
    assert reader.ended is ends


def stream(*events: tuple[str, Any]) -> list[ServerSentEvent]:
    return [ServerSentEvent(event=kind, data=json.dumps(data)) for kind, data in events]


WINDOW = RESULT_EXAMPLE["windows"][0]
TWO_WINDOWS = {**RESULT_EXAMPLE, "windows": [WINDOW, WINDOW]}


def test_each_window_of_a_stream_is_reported_once_and_those_left_with_the_answer() -> None:
    reported: list[int] = []
    events = ClassifyEvents(lambda index, window: reported.append(index))
    second = ("window", {"index": 1, **WINDOW})
    sent = stream(("uploaded", {"id": "f" * 32}), ("decoded", {}), second, second, ("result", TWO_WINDOWS))
    answers = [events.take(event) for event in sent]
    assert reported == [1, 0]
    assert events.job_id == "f" * 32
    assert answers[:-1] == [None] * 4
    assert answers[-1] is not None
    assert error_of(answers[-1]) is None


def test_a_problem_in_a_stream_is_the_error_that_the_request_would_have_had() -> None:
    body = {**json.loads(bytes(FULL.body)), "retry_after_s": 7}
    answer = ClassifyEvents(lambda index, window: None).take(*stream(("problem", body)))
    assert answer is not None
    error = error_of(answer)
    assert isinstance(error, QueueFull)
    assert (error.limit, error.retry_after_s) == (10, 7)


@pytest.mark.parametrize("data", ["<html>", "[]", "{}", '{"index": 0}'])
@pytest.mark.parametrize("kind", ["uploaded", "window", "result", "problem"])
def test_an_event_of_a_classification_in_other_words_is_an_error_of_its_own(kind: str, data: str) -> None:
    with pytest.raises(UnexpectedAnswer):
        ClassifyEvents(lambda index, window: None).take(ServerSentEvent(event=kind, data=data))


def test_who_gives_up_a_stream_deletes_its_job() -> None:
    def flow(protocol: RequestFlow) -> Steps[Any]:
        return protocol.classify(Upload(b"video"), {}, None, no_progress, 100.0, lambda index, window: None)

    steps = flow(RequestFlow(Retry(), Clock()))
    sent = next(steps)
    assert isinstance(sent, Send)
    assert sent.events is not None
    sent.events.take(*stream(("uploaded", {"id": "f" * 32})))
    deletion = steps.throw(KeyboardInterrupt())
    assert isinstance(deletion, Send)
    assert (deletion.method, deletion.path, deletion.shielded) == ("DELETE", f"/v1/jobs/{'f' * 32}", True)
    with pytest.raises(KeyboardInterrupt):
        steps.send(Reply(204, {}, b""))


def test_an_event_in_other_words_is_an_error_of_its_own() -> None:
    with pytest.raises(UnexpectedAnswer):
        JobEventReader("0" * 32, None, Retry()).event(ServerSentEvent(data="<html>", id="1-0"))


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


def test_an_export_asks_for_what_is_wanted_and_gives_the_text_of_the_file() -> None:
    file = Reply(200, httpx.Headers({"Content-Disposition": "attachment; filename*=UTF-8''a.vtt"}), "é".encode())
    text, sent, _ = play(lambda flow: flow.export("j1", "vtt", "shots", "a.mp4"), file)
    assert text == "é"
    [request] = sent
    assert (request.method, request.path) == ("GET", "/v1/jobs/j1/result")
    assert request.params == {"format": "vtt", "of": "shots", "name": "a.mp4"}


def test_an_export_of_a_job_without_a_name_is_called_by_the_job() -> None:
    file = Reply(200, httpx.Headers({"Content-Disposition": "attachment"}), b"")
    _, [request], _ = play(lambda flow: flow.export("j1", "csv", "events", None), file)
    assert "name" not in request.params


def test_a_page_in_place_of_an_export_is_no_file() -> None:
    with pytest.raises(UnexpectedAnswer):
        play(lambda flow: flow.export("j1", "csv", "events", None), reply(200, {}, **{"Content-Type": "text/html"}))


def test_the_client_knows_every_format_of_the_service() -> None:
    assert get_args(ExportFormat) == tuple(FORMATS)
    assert get_args(Exported) == KINDS
