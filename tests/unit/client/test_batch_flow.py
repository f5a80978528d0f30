"""What the client asks of batches, without a server and without waiting: flows are carried out by hand."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api.batches.manifest import ManifestLimits, read_manifest
from service.api.openapi_batches import BATCHES, RESULT_LINES
from service.api.problems import problem
from service.api.schemas import ClassifyOptions
from service.client.batch_flow import BatchFlow, Manifest
from service.client.client_errors import Reply
from service.client.request_flow import RequestFlow
from service.client.retries import Retry
from service.client.steps import Send, Sleep
from service.client.uploads import VideoUrl
from service.errors import BadLine, InvalidManifest, UnexpectedAnswer

BATCH = BATCHES["examples"]["running"]["value"]
LINES = RESULT_LINES["examples"]["two_lines"]["value"].encode()
NEXT = {"link": '</v1/batches/x/results?after=2&limit=2>; rel="next"'}


@pytest.fixture
def flow() -> BatchFlow:
    return BatchFlow(RequestFlow(Retry(for_s=0)))


def answer(steps: Any, *replies: Reply) -> tuple[Any, list[Any]]:
    """What a flow returns, and what it asked for."""
    asked, left = [next(steps)], list(replies)
    while True:
        try:
            asked.append(steps.send(None if isinstance(asked[-1], Sleep) else left.pop(0)))
        except StopIteration as done:
            return done.value, asked


def pages(steps: Any, *replies: tuple[bytes, dict[str, str]]) -> tuple[Any, list[Any]]:
    return answer(steps, *(Reply(200, httpx.Headers(headers), content) for content, headers in replies))


@pytest.mark.parametrize("kind", ["path", "csv", "bytes", "lines"])
def test_a_manifest_goes_out_as_the_server_reads_it(flow: BatchFlow, tmp_path: Path, kind: str) -> None:
    jsonl = json.dumps({"source": {"url": "https://a/b"}, "id": "x"}).encode()
    (tmp_path / "lines").write_bytes(jsonl)
    (tmp_path / "lines.CSV").write_bytes(b"url,id\nhttps://a/b,x\n")
    given: dict[str, Manifest] = {
        "path": tmp_path / "lines",
        "csv": str(tmp_path / "lines.CSV"),
        "bytes": jsonl,
        "lines": [{"source": {"url": "https://a/b"}, "id": "x"}],
    }
    accepted = Reply(202, {}, json.dumps(BATCH).encode())
    steps = flow.create(given[kind], {"top_k": 2}, "key", "s3://out/x", "https://a/hook")
    found, [send] = answer(steps, accepted)
    assert found.id == BATCH["id"]
    assert (send.path, send.params, send.headers["Idempotency-Key"]) == (
        "/v1/batches",
        {"top_k": "2", "destination": "s3://out/x", "batch_webhook": "https://a/hook"},
        "key",
    )
    body = b"".join(send.upload.chunks(send.report))
    limits = ManifestLimits(10, 1000)
    [line] = read_manifest(send.headers["Content-Type"], body, ClassifyOptions(), limits, lambda url, options: None)
    assert (line.url, line.id) == ("https://a/b", "x")


def test_urls_alone_are_lines_too(flow: BatchFlow) -> None:
    _, [send] = answer(flow.create([VideoUrl("https://a/b")], {}, None), Reply(202, {}, json.dumps(BATCH).encode()))
    assert b"".join(send.upload.chunks(send.report)) == b'{"source": {"url": "https://a/b"}}\n'
    assert send.headers["Idempotency-Key"]


def test_the_lines_that_are_wrong_come_with_the_error(flow: BatchFlow) -> None:
    bad = [BadLine(3, "It is no JSON.", None, None), BadLine(4, "`top_k`: Too many.", 1000, 5000)]
    refused = problem(InvalidManifest.of(bad, most=9), "r1")
    with pytest.raises(InvalidManifest) as caught:
        answer(flow.create(b"{", {}, None), Reply(422, refused.headers, bytes(refused.body)))
    assert caught.value.lines == tuple(bad)


def test_results_are_waited_for_until_there_are_some(flow: BatchFlow) -> None:
    page, asked = pages(flow.results("x", 0, 2, wait=True), (b"", NEXT), (b"", NEXT), (LINES, NEXT))
    assert [one.seq for one in page.results] == [1, 2]
    assert page.more
    sends = [one for one in asked if isinstance(one, Send)]
    waits = [one.seconds for one in asked if isinstance(one, Sleep)]
    assert [send.params for send in sends] == 3 * [{"after": "0", "limit": "2"}]
    assert waits == sorted(waits)
    assert len(waits) == 2


@pytest.mark.parametrize(
    ("content", "link", "wait", "more"),
    [
        (LINES, {}, True, False),
        (b"", {}, True, False),
        (b"", NEXT, False, False),
        (LINES, NEXT, False, True),
        (LINES.splitlines()[0], NEXT, False, False),
        (LINES.splitlines()[0], NEXT, True, True),
    ],
)
def test_others_may_come_unless_the_batch_has_ended_or_they_are_not_waited_for(
    flow: BatchFlow, content: bytes, link: dict[str, str], wait: bool, more: bool
) -> None:
    page, _ = pages(flow.results("x", 0, 2, wait=wait), (content, link))
    assert page.more is more


def test_an_answer_that_is_no_list_of_results_is_not_the_services(flow: BatchFlow) -> None:
    with pytest.raises(UnexpectedAnswer):
        pages(flow.results("x", 0, 2, wait=True), (b"<html>", {}))
