"""The service beside what people would use instead: same file of the network, same videos, same cores, in turns.

Each peer has two rows: `service` decodes in its preprocessing by our own `service.video`, `plain` as a tutorial would.
A row holds the capacity of both (closed loop), and the latency of both over many requests that arrive at 70 % of the
peer's capacity (open loop, from the moment a request was to be sent), each the median of some rounds in turns. A round
of latency begins with some seconds that do not count: what a fresh server does for the first time is not asked here. A
tie is a difference of up to 3 %. A better serving can be claimed from the rows `service` only: in the others decoding
is compared too.

Peers run with the settings of `tuned.json`, the best of a sweep (`--sweep`) over workers, batch and threads; a row
without one of its own takes that of `service`. Ours runs as `vidtr up` without any; `benchmarks.e2e --sweep` does the
same to it.

    python -m benchmarks.peers.run [--peers NAME …] [--decoders NAME …] [--sweep] [--seconds S] [--requests N]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import statistics
import struct
import sys
import sysconfig
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import psutil
import uvloop

from benchmarks.common import record
from benchmarks.common.cpu import CORES
from benchmarks.common.http import Client, request, upload
from benchmarks.common.load import closed_loop, open_loop, percentiles_ms
from benchmarks.common.models import NAMES, model_of
from benchmarks.decode_videos import video
from benchmarks.e2e import CLIENTS, KIND, path_of, program
from benchmarks.peers.environments import PINS, missing, python_of
from service.inference.registry import ModelFile
from service.local.process import ServerProcess, free_ports

TUNED = Path(__file__).with_name("tuned.json")
SWEEP = {"WORKERS": sorted({1, CORES}), "BATCH": [1, 8], "THREADS": sorted({1, CORES})}
UNTUNED = {"WORKERS": CORES, "BATCH": 8, "THREADS": 1}
START_TIMEOUT_S = 180.0
STOP_GRACE_S = 15.0
SETTLE_S = 2.0
LEAD_IN_S = 2.0
LOAD = 0.7
TIE = 0.03


def as_tensor(model: str, video: bytes) -> bytes:
    """A file as a request of the KServe protocol with binary tensor data, as PyTriton takes it."""
    element = struct.pack("<I", len(video)) + video
    tensor = {"name": "video", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(element)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    kind, length = "application/octet-stream", f"Inference-Header-Content-Length: {len(head)}"
    return request(f"/v2/models/{model}/infer", head + element, kind, length)


@dataclass(frozen=True)
class Peer:
    """How a peer is started, and how a video is sent to it."""

    module: str
    message: Callable[[str, bytes], bytes] = lambda model, video: upload("/classify", video)
    program: tuple[str, ...] = ()
    """instead of the module itself, `{port}` standing for the port"""
    batches: bool = True
    """whether it has a batch size to try"""


PEERS = {
    "fastapi": Peer("benchmarks.peers.fastapi_app", batches=False),
    "litserve": Peer("benchmarks.peers.litserve_app"),
    "bentoml": Peer(
        "", program=("bentoml", "serve", "benchmarks.peers.bentoml_app:Front", "--host", "127.0.0.1", "-p", "{port}")
    ),
    "ray": Peer("benchmarks.peers.ray_app"),
    "pytriton": Peer("benchmarks.peers.pytriton_app", as_tensor),
}


@contextlib.asynccontextmanager
async def peer(
    name: str, decoder: str, settings: dict[str, int], model: ModelFile, log: Path
) -> AsyncIterator[tuple[int, ServerProcess]]:
    """The peer, started; gives its port and its process."""
    one = PEERS[name]
    port, grpc_port, metrics_port = free_ports(3)
    environment = {
        **os.environ,
        **{key: str(value) for key, value in settings.items()},
        "PORT": str(port),
        "GRPC_PORT": str(grpc_port),
        "METRICS_PORT": str(metrics_port),
        "MODELS": str(model.path.parents[2]),
        "DECODE": decoder,
        "OMP_NUM_THREADS": str(settings["THREADS"]),
        "PATH": os.pathsep.join([str(python_of(name).parent), os.environ["PATH"]]),
        # The stub of PyTriton loads Python as a library: it must be the one whose standard library stands on its path.
        "LD_LIBRARY_PATH": os.pathsep.join(
            filter(None, [sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH")])
        ),
        "BENTOML_DO_NOT_TRACK": "true",
        "BENTOML_QUIET": "true",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    command = [str(python_of(name)), "-m", *(one.program or (one.module,))]
    server = ServerProcess([part.format(port=port) for part in command], name=name, log=log, environment=environment)
    server.start()
    try:
        yield port, server
    finally:
        below = psutil.Process(server.pid).children(recursive=True) if server.pid else []
        await asyncio.to_thread(server.stop, STOP_GRACE_S)
        # Not every framework takes its helpers with it.
        for process in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


async def first_answer(port: int, message: bytes, log: Path, alive: Callable[[], bool] = lambda: True) -> bytes:
    """Wait until the server answers a video. Raises TimeoutError with the end of its log."""
    end = time.monotonic() + START_TIMEOUT_S
    client = Client(port)
    while not (answer := await client.send(message)).good:
        if time.monotonic() > end or not alive():
            raise TimeoutError(f"status {answer.status} {answer.body[:500]!r}; its log:\n{_end_of(log)}")
        await asyncio.sleep(0.2)
    client.close()
    return answer.body


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-4000:]


@dataclass(frozen=True)
class Latency:
    """Of one open loop: percentiles of the good answers in milliseconds, and how many there were of the others."""

    ms: dict[str, float]
    bad: int


class Row:
    """One peer with one decoder, beside ours."""

    def __init__(self, name: str, decoder: str, model: ModelFile, clip: bytes, scratch: Path) -> None:
        self._name, self._decoder, self._model, self._scratch = name, decoder, model, scratch
        self._theirs = PEERS[name].message(model.spec.name, clip)
        self._ours = upload(path_of(model.spec.name), clip)
        self.batches = PEERS[name].batches
        self.answers: dict[str, str] = {}

    @contextlib.asynccontextmanager
    async def running(self, who: str, settings: dict[str, int]) -> AsyncIterator[tuple[Client, bytes]]:
        """The server of `ours` or `peer` warm, and what to send."""
        with contextlib.ExitStack() as stack:
            if who == "ours":
                folder = self._scratch / f"up{time.monotonic_ns()}"
                started = await asyncio.to_thread(stack.enter_context, program(folder, self._model))
                port, message, log = started.port, self._ours, started.log
                answer = await first_answer(port, message, log)
                client = Client(port)
                yield await self._settled(client, message, who, answer)
                client.close()
                return
            log = self._scratch / f"{self._name}.log"
            async with peer(self._name, self._decoder, settings, self._model, log) as (
                port,
                server,
            ):
                answer = await first_answer(port, self._theirs, log, lambda: server.pid is not None)
                client = Client(port)
                yield await self._settled(client, self._theirs, who, answer)
                client.close()

    async def _settled(self, client: Client, message: bytes, who: str, answer: bytes) -> tuple[Client, bytes]:
        self.answers[who] = answer.decode(errors="replace")[:600]
        await closed_loop(lambda: client.send(message), CLIENTS, SETTLE_S, settle_s=0.0)
        return client, message

    async def capacity(self, who: str, settings: dict[str, int], seconds: float) -> float:
        """Videos per second."""
        async with self.running(who, settings) as (client, message):
            found = await closed_loop(lambda: client.send(message), CLIENTS, seconds)
        if found.bad:
            print(f"{self._name} ({self._decoder}), {who}: {found.bad} answers were not 200", file=sys.stderr)
        return found.per_s

    async def latency(self, who: str, settings: dict[str, int], rate: float, count: int) -> Latency:
        """An open loop of `count` requests after those of the first seconds."""
        unseen = math.ceil(LEAD_IN_S * rate)
        async with self.running(who, settings) as (client, message):
            samples = (await open_loop(lambda: client.send(message), rate, unseen + count))[unseen:]
        good = [sample.latency_s for sample in samples if sample.answer.good]
        return Latency(percentiles_ms(good), bad=len(samples) - len(good))


async def sweep(row: Row, seconds: float) -> dict[str, Any]:
    """Capacity of the peer with each setting, and the best one."""
    found: list[dict[str, Any]] = []
    for values in product(*(SWEEP if row.batches else {**SWEEP, "BATCH": [1]}).values()):
        settings = dict(zip(SWEEP, values, strict=True))
        found.append({"settings": settings, "videos_per_s": await row.capacity("peer", settings, seconds)})
    best = max(found, key=lambda one: one["videos_per_s"])
    return {"settings": best["settings"], "cores": CORES, "all": found}


async def compare(row: Row, settings: dict[str, int], seconds: float, requests: int, rounds: int) -> dict[str, Any]:
    """Capacity and latency of both; without `requests` the capacity alone."""

    async def in_turns(measure: Callable[[str], Awaitable[Any]]) -> dict[str, list[Any]]:
        return await record.interleaved(rounds, {who: partial(measure, who) for who in ("peer", "ours")})

    capacity = await in_turns(lambda who: row.capacity(who, settings, seconds))
    figures: dict[str, Any] = {
        "settings": settings,
        "videos_per_s": capacity,
        "capacity_ratio": record.median_of_ratios(capacity["ours"], capacity["peer"]),
        "answers": row.answers,
    }
    if requests:
        rate = LOAD * statistics.median(capacity["peer"])
        found = await in_turns(lambda who: row.latency(who, settings, rate, requests))
        p99 = {who: [one.ms["p99"] for one in all_] for who, all_ in found.items()}
        figures |= {
            "rate_per_s": rate,
            "requests": requests,
            "bad": {who: sum(one.bad for one in all_) for who, all_ in found.items()},
            "latency_ms": {
                who: {share: statistics.median(one.ms[share] for one in all_) for share in all_[0].ms}
                for who, all_ in found.items()
            },
            "p99_ms": p99,
            "p99_ratio": record.median_of_ratios(p99["peer"], p99["ours"]),
        }
    return figures


def verdict(ratio: float) -> str:
    """Of a ratio that is greater where ours is better."""
    return "tie" if abs(ratio - 1) <= TIE else "better" if ratio > 1 else "WORSE"


async def run(arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, float]]:
    """All rows that were asked for: figures and ratios."""
    tuned = json.loads(TUNED.read_text()) if TUNED.exists() else {}
    figures: dict[str, Any] = {}
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="vidtr-peers-") as name:
        scratch = Path(name)
        model = model_of(arguments.model, scratch / "models")
        clip = video(scratch, KIND, True).read_bytes()
        for peer_name, decoder in product(arguments.peers, arguments.decoders):
            row = Row(peer_name, decoder, model, clip, scratch)
            label = f"{peer_name}, {decoder}"
            key = f"{arguments.model}, {label}"
            try:
                if arguments.sweep:
                    tuned[key] = await sweep(row, arguments.seconds)
                    TUNED.write_text(json.dumps(tuned, indent=2, sort_keys=True) + "\n")
                swept = tuned.get(key) or tuned.get(f"{arguments.model}, {peer_name}, service", {})
                settings = swept.get("settings", UNTUNED)
                found = await compare(row, settings, arguments.seconds, arguments.requests, arguments.rounds)
            except TimeoutError as error:
                figures[label] = {"error": str(error)}
                print(f"{label:20} does not answer: {error}", file=sys.stderr, flush=True)
                continue
            figures[label] = found
            ratios[f"{label}: capacity"] = found["capacity_ratio"]
            text = f"capacity {found['capacity_ratio']:.3f} ({verdict(found['capacity_ratio'])})"
            if "p99_ratio" in found:
                ratios[f"{label}: p99"] = found["p99_ratio"]
                text += f", p99 {found['p99_ratio']:.3f} ({verdict(found['p99_ratio'])})"
            print(f"{label:20} ours over theirs: {text}", flush=True)
    return figures, ratios


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", nargs="+", choices=sorted(PINS), default=list(PINS))
    parser.add_argument("--decoders", nargs="+", choices=("service", "plain"), default=["service", "plain"])
    parser.add_argument("--model", choices=NAMES, default="camera_motion")
    parser.add_argument("--sweep", action="store_true", help="find the best settings of each peer first")
    parser.add_argument("--seconds", type=float, default=10.0, help="of one measurement of capacity")
    parser.add_argument(
        "--requests", type=int, default=2000, help="of one measurement of latency; 0 for the capacity alone"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if absent := set(missing()) & set(arguments.peers):
        parser.error(f"no environment for {', '.join(sorted(absent))}: run python -m benchmarks.peers.environments")
    began = record.machine()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures, ratios = runner.run(run(arguments))
    record.write(f"peers-{arguments.model}", figures, began=began, ratios=ratios, path=arguments.json)


if __name__ == "__main__":
    main()
