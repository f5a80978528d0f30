"""One request's trace, from the HTTP request to Triton's own spans, as a collector receives it."""

import http.server
import itertools
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from service.local.process import free_ports
from service.local.triton_process import LocalTriton
from testing.program import Program, upload
from testing.videos import write_video
from tests.fixtures.servers import SHIPPED_REPOSITORY

pytestmark = pytest.mark.slow

REFUSED = "5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e"
CALLER = "4bf92f3577b34da6a3ce929d0e0e4736"
STEPS = ["admission", "upload", "decode", "enqueue", "wait", "answer"]


@dataclass
class Span:
    service: str
    name: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    links: list[tuple[str, str]]
    failed: bool = False

    @property
    def ms(self) -> float:
        return (self.end - self.start) / 1e6


@dataclass
class Collector:
    """Receives OTLP over HTTP and keeps the spans."""

    port: int
    spans: list[Span] = field(default_factory=list)

    def receive(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
            for scope in resource.scope_spans:
                for s in scope.spans:
                    links = [(link.trace_id.hex(), link.span_id.hex()) for link in s.links]
                    ids = (s.trace_id.hex(), s.span_id.hex(), s.parent_span_id.hex())
                    times = (s.start_time_unix_nano, s.end_time_unix_nano)
                    failed = s.status.code == Status.STATUS_CODE_ERROR
                    self.spans.append(Span(names[0], s.name, *ids, *times, links, failed))

    def receive_json(self, body: bytes) -> None:
        """Triton's form: OTLP's JSON, in which ids are hexadecimal and times are strings."""
        for resource in json.loads(body)["resourceSpans"]:
            attributes = resource["resource"]["attributes"]
            (service,) = (a["value"]["stringValue"] for a in attributes if a["key"] == "service.name")
            for scope in resource["scopeSpans"]:
                for s in scope["spans"]:
                    begin, end = int(s["startTimeUnixNano"]), int(s["endTimeUnixNano"])
                    trace, own, parent = s["traceId"].lower(), s["spanId"].lower(), s.get("parentSpanId", "").lower()
                    self.spans.append(Span(service, s["name"], trace, own, parent, begin, end, []))

    def trace(self, trace: str) -> list[Span]:
        return sorted((s for s in self.spans if s.trace == trace), key=lambda s: s.start)

    def root(self, trace: str) -> Span:
        (found,) = [s for s in self.trace(trace) if s.name == "POST /v1/classify"]
        return found


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    collector = Collector(free_ports(1)[0])

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers["Content-Type"] == "application/json":
                collector.receive_json(body)
            else:
                collector.receive(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", collector.port), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield collector
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def traced(collector: Collector, triton_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Trace ids of some requests, the first of which had a caller with a trace of its own."""
    directory = tmp_path_factory.mktemp("traces")
    url = f"http://127.0.0.1:{collector.port}"
    clip = write_video(directory / "clip.mp4", 250, fps=25, size=(320, 240))
    damaged = directory / "damaged.mp4"
    damaged.write_bytes(clip.read_bytes()[: clip.stat().st_size // 3])
    with LocalTriton(triton_directory, SHIPPED_REPOSITORY, log=directory / "triton.log", otlp=url) as triton:
        program = Program(
            directory,
            "--engine",
            "triton",
            VIDTR_TRITON_URL=triton.addresses.grpc,
            VIDTR_OTLP_ENDPOINT=url,
            VIDTR_LOG_FORMAT="json",
        )
        with program, program.client() as client:
            client.headers["traceparent"] = f"00-{CALLER}-00f067aa0ba902b7-01"
            assert upload(client, clip).status_code == 200
            del client.headers["traceparent"]
            for _ in range(4):
                assert upload(client, clip).status_code == 200
            client.headers["traceparent"] = f"00-{REFUSED}-00f067aa0ba902b7-01"
            assert upload(client, damaged).status_code == 422
        # The servers' last spans are sent when they stop.
        assert f'"trace_id": "{CALLER}"' in program.log.read_text()
    end = time.monotonic() + 20
    while len([s for s in collector.spans if s.name == "POST /v1/classify"]) < 6 and time.monotonic() < end:
        time.sleep(0.1)
    return [s.trace for s in collector.spans if s.name == "POST /v1/classify" and s.trace != REFUSED]


def shown(spans: list[Span], parent: str, first: int, depth: int = 0) -> Iterator[str]:
    """A trace as text: start and length in milliseconds, indented by parent."""
    for s in spans:
        if s.parent == parent:
            yield f"{(s.start - first) / 1e6:9.1f} {s.ms:9.1f}  {'  ' * depth}{s.name} [{s.service}]"
            yield from shown(spans, s.id, first, depth + 1)


def test_a_request_is_one_trace_of_all_its_stages(collector: Collector, traced: list[str]) -> None:
    assert CALLER in traced
    root, spans = collector.root(CALLER), collector.trace(CALLER)
    print("\n".join(shown(spans, "00f067aa0ba902b7", root.start)))
    assert root.parent == "00f067aa0ba902b7"
    children = [s for s in spans if s.parent == root.id]
    assert [s.name for s in children if s.service == "vidtr-api"] == STEPS
    names = [s.name for s in children if s.service == "vidtr-worker"]
    assert set(names) == {"queue", "inference", "completion"}
    assert names.count("queue") == names.count("inference") == 10
    assert len(spans) == len(children) + 1


def test_the_phases_of_every_request_add_up_to_it(collector: Collector, traced: list[str]) -> None:
    for trace in traced:
        root = collector.root(trace)
        phases = [s for s in collector.trace(trace) if s.parent == root.id and s.service == "vidtr-api"]
        assert [s.name for s in phases] == STEPS
        assert phases[0].start == root.start
        assert all(after.start == before.end for before, after in itertools.pairwise(phases))
        assert sum(s.ms for s in phases) == pytest.approx(root.ms, rel=0.05)


def test_a_refused_request_ends_in_the_phase_that_went_wrong(collector: Collector, traced: list[str]) -> None:
    root = collector.root(REFUSED)
    phases = [s for s in collector.trace(REFUSED) if s.parent == root.id]
    assert [(s.name, s.failed) for s in phases] == [("admission", False), ("upload", False), ("decode", True)]
    assert sum(s.ms for s in phases) == pytest.approx(root.ms, rel=0.05)


def test_a_batch_is_linked_with_the_requests_of_its_clips(collector: Collector, traced: list[str]) -> None:
    root = collector.root(CALLER)
    batches = [s for s in collector.spans if s.name == "batch" and (CALLER, root.id) in s.links]
    assert batches
    for s in collector.trace(CALLER):
        if s.name == "inference":
            assert s.links[0] in [(batch.trace, batch.id) for batch in batches]


def test_triton_hangs_its_spans_below_the_call(collector: Collector, traced: list[str]) -> None:
    calls = {s.id: s for s in collector.spans if s.name == "inference" and s.service == "vidtr-worker"}
    theirs = [s for s in collector.spans if not s.service.startswith("vidtr")]
    below = [s for s in theirs if s.parent in calls]
    assert below
    print("\n".join(shown(collector.trace(below[0].trace), "", collector.trace(below[0].trace)[0].start)))
    assert all(s.trace == calls[s.parent].trace for s in below)
