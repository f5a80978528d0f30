"""The load generator charges a server for what it makes others wait, and the records say where they come from."""

import asyncio
import math
import subprocess
import sys
import time

import pytest

from benchmarks.common.cpu import Meter, tree_cpu_s
from benchmarks.common.http import Answer, Client, request, upload
from benchmarks.common.load import closed_loop, open_loop, percentiles_ms
from benchmarks.common.record import interleaved, median_of_ratios

SPIN = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"


async def test_a_stall_counts_for_every_request_that_was_to_be_sent_in_it() -> None:
    sent = 0

    async def send() -> Answer:
        nonlocal sent
        sent += 1
        if sent == 1:
            time.sleep(0.2)  # noqa: ASYNC251 - the whole process stands still, generator included
        return Answer(200)

    samples = await open_loop(send, rate=100, count=21)
    late = [sample for sample in samples if sample.latency_s > 0.05]
    assert len(late) >= 14
    assert all(sample.latency_s >= sample.ended - sample.sent for sample in samples)


async def test_an_open_loop_does_not_wait_for_answers() -> None:
    most = on_their_way = 0

    async def send() -> Answer:
        nonlocal most, on_their_way
        on_their_way += 1
        most = max(most, on_their_way)
        await asyncio.sleep(0.2)
        on_their_way -= 1
        return Answer(200)

    await open_loop(send, rate=200, count=20)
    assert most > 5


async def test_a_closed_loop_never_has_more_requests_on_their_way_than_clients() -> None:
    most = on_their_way = 0

    async def send() -> Answer:
        nonlocal most, on_their_way
        on_their_way += 1
        most = max(most, on_their_way)
        await asyncio.sleep(0.01)
        on_their_way -= 1
        return Answer(200)

    found = await closed_loop(send, clients=3, seconds=0.2, settle_s=0.05)
    assert most == 3
    assert found.good > 0
    assert found.per_s == pytest.approx(found.good / found.seconds)


async def test_refusals_are_no_capacity() -> None:
    async def send() -> Answer:
        await asyncio.sleep(0.001)
        return Answer(503)

    found = await closed_loop(send, clients=2, seconds=0.1, settle_s=0.0)
    assert found.per_s == 0
    assert found.bad > 0


def test_percentiles_are_milliseconds_and_nan_without_values() -> None:
    assert percentiles_ms([0.001] * 99 + [1.0], (50, 99.5))["p50"] == 1.0
    assert math.isnan(percentiles_ms([])["p99"])


def test_the_cpu_of_children_that_have_ended_counts() -> None:
    parent = (
        "import subprocess, sys, time\nsubprocess.run([sys.executable, '-c', sys.argv[1]])\nprint(flush=True)\ninput()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent, SPIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert tree_cpu_s([process.pid]) >= 0.3
        process.communicate(b"\n")


def test_a_process_that_is_gone_has_used_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert tree_cpu_s([process.pid]) == 0


def test_a_meter_tells_the_load_generator_from_the_rest() -> None:
    meter = Meter({"nobody": []})
    meter.mark()
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    meter.mark()
    assert meter.usage().cpu_s["own"] >= 0.05
    assert meter.usage().cpu_s["nobody"] == 0


async def test_rounds_take_turns_and_begin_with_another_way_each_time() -> None:
    order = []

    async def way(name: str) -> int:
        order.append(name)
        return len(order)

    found = await interleaved(2, {"a": lambda: way("a"), "b": lambda: way("b")})
    assert order == ["a", "b", "b", "a"]
    assert found == {"a": [1, 4], "b": [2, 3]}


def test_the_ratio_is_that_of_the_rounds() -> None:
    assert median_of_ratios([1, 20, 3], [2, 10, 3]) == 1.0


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    ],
    ids=["length", "chunked"],
)
async def test_the_client_reads_answers_one_after_the_other_on_one_connection(answer: bytes) -> None:
    connections = 0
    wanted = upload("/v1/classify", b"video")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for _ in range(2):
            assert await reader.readexactly(len(wanted)) == wanted
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = Client(server.sockets[0].getsockname()[1])
    for _ in range(2):
        assert await client.send(wanted) == Answer(200, b"hello")
    assert connections == 1
    client.close()
    server.close()


async def test_nobody_listening_is_an_answer_of_status_0() -> None:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    assert await Client(port).send(request("/", b"", "text/plain")) == Answer(0)
