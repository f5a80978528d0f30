"""One good caller beside one of twelve kinds of abuser: what it gets, and how long it waits, against being alone.

`vidtr up` with few places, so that a small crowd is a large one. The good caller sends one short video after the other,
alone and beside each abuser, in turns. Clients, api and worker share the cores: what an abuser's own requests cost to
refuse is in the figures. `success` is the share of 200; `of_alone` divides the 99th percentiles.

    python -m benchmarks.noisy_neighbours [--requests 200] [--connections 100] [--only NAME …] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import record
from benchmarks.common.abusers import ABUSERS, Target
from benchmarks.common.http import Client
from benchmarks.common.load import percentiles_ms
from service.api.api_keys import hashed, new_key
from testing.program import Program
from testing.videos import write_video

SETTINGS = {
    "VIDTR_MAX_CONCURRENT_UPLOADS": "16",
    "VIDTR_MAX_FOLLOWERS": "32",
    "VIDTR_UPLOAD_GRACE_S": "3",
    "VIDTR_WEBHOOK_SECRET": "whsec_" + 10 * "c2Vj",
    "VIDTR_WEBHOOK_PRIVATE_TARGETS": "true",
    "VIDTR_LOG_LEVEL": "warning",
}
LEAD_S = 2.0


@dataclass
class Good:
    """What a caller got: a status and a time in seconds for each of its videos."""

    statuses: list[int] = field(default_factory=list)
    taken_s: list[float] = field(default_factory=list)

    @property
    def success(self) -> float:
        """Share of its videos that were answered."""
        return self.statuses.count(200) / len(self.statuses)

    @property
    def p99_ms(self) -> float:
        """99th percentile of its times."""
        return percentiles_ms(self.taken_s)["p99"]

    async def send(self, client: Client, message: bytes, requests: int) -> None:
        """One video after the other."""
        for _ in range(requests):
            started = time.perf_counter()
            answer = await client.send(message)
            self.statuses.append(answer.status)
            self.taken_s.append(time.perf_counter() - started)


@dataclass(frozen=True)
class Scene:
    """A running program and its two callers."""

    program: Program
    good_key: str
    target: Target

    @property
    def message(self) -> bytes:
        """What the good caller sends."""
        head = self.target.head("POST /v1/classify?windows=1", length=len(self.target.clip))
        return head.replace(self.target.key.encode(), self.good_key.encode()) + self.target.clip


@contextlib.contextmanager
def scene(folder: Path, connections: int, **settings: str) -> Iterator[Scene]:
    """`vidtr up` with a key for each of the two."""
    good, bad = new_key(), new_key()
    keys = "\n".join(
        f'[[keys]]\nname = "{name}"\nhash = "{hashed(key)}"' for name, key in (("good", good), ("bad", bad))
    )
    program = Program(folder, settings={**SETTINGS, "VIDTR_API_KEYS": keys, **settings})
    clip = write_video(folder / "clip.mp4", 75, fps=25, size=(96, 64)).read_bytes()
    film = write_video(folder / "film.mp4", 1500, fps=25, size=(96, 64)).read_bytes()
    with program:
        yield Scene(program, good, Target(program.port, bad, clip, film, "", connections))


@contextlib.asynccontextmanager
async def beside(scene: Scene, name: str) -> AsyncIterator[Target]:
    """While the abuser is at it."""

    ended, held = asyncio.Event(), set[asyncio.Task[None] | None]()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.add(asyncio.current_task())
        await ended.wait()
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        scene.target.hook = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        scene.target.sent = 0
        abusing = asyncio.ensure_future(ABUSERS[name](scene.target))
        try:
            await asyncio.wait({abusing}, timeout=LEAD_S)
            yield scene.target
        finally:
            abusing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await abusing
            ended.set()
            await asyncio.gather(*(task for task in held if task is not None))


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, scene(Path(folder), arguments.connections) as running:
        client = Client(running.program.port)
        await Good().send(client, running.message, 20)
        for name in arguments.only:
            alone, together = Good(), Good()
            await alone.send(client, running.message, arguments.requests)
            async with beside(running, name) as target:
                await together.send(client, running.message, arguments.requests)
                begun = target.sent
            figures[name] = {
                "success": round(together.success, 4),
                "of_alone": round(together.p99_ms / alone.p99_ms, 2),
                "p99_ms": round(together.p99_ms, 1),
                "p99_alone_ms": round(alone.p99_ms, 1),
                "abuses": begun,
            }
            print(name, json.dumps(figures[name]), flush=True)
            await asyncio.sleep(LEAD_S)
    return figures


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200, help="of the good caller, alone and beside each abuser")
    parser.add_argument("--connections", type=int, default=100, help="of an abuser at a time")
    parser.add_argument("--only", nargs="+", choices=list(ABUSERS), default=list(ABUSERS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    began = record.machine()
    figures = asyncio.run(measure(arguments))
    ratios = {f"p99 alone, of that beside {name}": 1 / found["of_alone"] for name, found in figures.items()}
    record.write("noisy-neighbors", figures, began=began, ratios=ratios, path=arguments.json)


if __name__ == "__main__":
    main()
