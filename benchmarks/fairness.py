"""Short clips beside a long film: twenty jobs of one clip, alone and while a job of 200 clips is uploaded and scored.

Real API and worker processes with a backend of fixed service time. The short ones may take as long as they take alone
and one full batch longer, and a fifth of that: `of_bound` is their 95th percentile divided by it, at most 1.

    python -m benchmarks.fairness [--rounds 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path

from benchmarks.e2e_stub_engine import SERVICE_S, Stack, asked, classify, percentile, running

SINGLES = 20
EVERY_S = 0.25
LONG_CLIPS = 200
SLACK = 1.2


async def singles(stack: Stack) -> list[float]:
    """Seconds that the short jobs take, one sent every quarter of a second."""
    requests = []
    for _ in range(SINGLES):
        requests.append(asyncio.create_task(classify(stack)))
        await asyncio.sleep(EVERY_S)
    answers = await asyncio.gather(*requests)
    assert {answer.status for answer in answers} == {200}, sorted(answer.status for answer in answers)
    return [answer.total_s for answer in answers]


async def beside(stack: Stack) -> tuple[list[float], int]:
    """The same while a long job is uploaded, decoded and scored; and how many of its clips were left at the end."""
    path = f"/v1/classify?windows={LONG_CLIPS}&attention=none"
    headers = {"Content_Type": "video/mp4", "Prefer": "respond-async"}
    upload = asyncio.create_task(asked(stack.port, "POST", path, stack.long, **headers))
    taken = await singles(stack)
    bulk = await upload
    assert bulk.status == 202, bulk
    job = f"/v1/jobs/{json.loads(bulk.body)['id']}"
    status = json.loads((await asked(stack.port, "GET", job)).body)
    left = status["clips_total"] - status["clips_done"]
    assert status["clips_total"] == LONG_CLIPS
    assert left > 0, "the long job was over before the short ones were"
    assert (await asked(stack.port, "DELETE", job)).status == 204
    return taken, left


async def measure(rounds: int) -> dict[str, float]:
    """All figures; the rounds alternate."""
    alone: list[float] = []
    together: list[float] = []
    left: list[int] = []
    async with running("fixed", decode_workers=2) as stack:
        # The first answers start the decode processes and tell how fast the worker is.
        await singles(stack)
        for _ in range(rounds):
            alone += await singles(stack)
            taken, clips = await beside(stack)
            together += taken
            left.append(clips)
            # What was taken from the deleted job is still being scored.
            await asyncio.sleep(2 * SERVICE_S)
    bound = SLACK * (percentile(alone, 95) + SERVICE_S)
    return {
        "alone_p50_s": percentile(alone, 50),
        "alone_p95_s": percentile(alone, 95),
        "together_p50_s": percentile(together, 50),
        "together_p95_s": percentile(together, 95),
        "batch_s": SERVICE_S,
        "bound_s": bound,
        "of_bound": percentile(together, 95) / bound,
        "long_clips_left": min(left),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/fairness.json"))
    arguments = parser.parse_args()
    figures = asyncio.run(measure(arguments.rounds))
    for name, value in figures.items():
        print(f"{name:18} {value:8.3f}")
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps({"at": time.time(), **figures}, indent=2))


if __name__ == "__main__":
    main()
