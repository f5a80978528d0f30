"""What exact causal evidence costs beside the forwards that it is made of, in CPU seconds.

    python -m benchmarks.evidence_cost [--model camera_motion] [--rounds 5] [--json FILE]

In each round the whole program, whose API, worker and Redis are counted together, answers a request for one window
without evidence and then, once the worker expects no more of those, some with it. Meanwhile a process beside it does
nothing but forwards of the same file, as the in-process engine runs it, in the same batches, on its own core: both find
the caches and the clock of the same moment, which make a third of what a forward takes. Two ratios are printed, both of
CPU seconds that evidence adds to a request: over those of the thread of the worker that computes, which says what the
service adds to its forwards; and over as many forwards of the process beside it, which has a core, its caches and its
memory to itself.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from benchmarks.common import record
from benchmarks.common.cpu import Meter
from benchmarks.common.models import NAMES, as_served, model_of
from service.client import Client
from service.evidence import EXACT_FRAMES, plan, variants
from service.inference.allocator import tune_malloc
from service.worker.scheduler import EXPECTED_S
from testing.program import Program
from testing.videos import write_video

SECONDS, FPS = 2, 30
KINDS: tuple[tuple[Literal["none", "causal"], int], ...] = (("none", 1), ("causal", 3))
"""what is asked for in each round, and how often"""


class Forwards:
    """A process that scores clips `(M, T, H, W, 3)` of a model again and again.

    Attributes:
        done: CPU seconds used so far, and how many clips they scored.
    """

    def __init__(self, path: Path, masked: np.ndarray, batch: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._done = context.Array("d", 2)
        self._process = context.Process(target=_forwards, args=(path, masked, batch, self._done), daemon=True)

    def __enter__(self) -> Forwards:
        self._process.start()
        while not self.done[1]:
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    @property
    def done(self) -> tuple[float, float]:
        with self._done.get_lock():
            return float(self._done[0]), float(self._done[1])


def _forwards(path: Path, masked: np.ndarray, batch: int, done: Any) -> None:
    tune_malloc()
    torch.set_num_threads(1)
    forward, clips = as_served(path), torch.from_numpy(masked)
    forward(clips[:batch])  # the first forward prepares itself
    began, scored = time.process_time(), 0
    while True:
        for first in range(0, len(clips), batch):
            scored += len(forward(clips[first : first + batch])[0])
            with done.get_lock():
                done[:] = time.process_time() - began, float(scored)


def engine_cpu_s(program: Program) -> float:
    """CPU seconds of the thread of the worker that computes: the one that has used most."""
    return max(float(thread.user_time + thread.system_time) for thread in program.process("worker").threads())


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=NAMES, default="camera_motion")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    began = record.machine()
    rounds = []
    with tempfile.TemporaryDirectory(prefix="evidence-cost-") as folder:
        scratch = Path(folder)
        model = model_of(given.model, scratch / "models")
        spec = model.spec
        if spec.frames > EXACT_FRAMES:
            parser.error(f"--model must have at most {EXACT_FRAMES} frames, not {spec.frames}: others are sampled")
        video = write_video(scratch / "video.mp4", SECONDS * FPS, fps=FPS, size=(320, 240))
        clip = np.random.default_rng(0).integers(0, 256, spec.clip_shape, np.uint8)
        masked = variants(clip, plan(spec.frames).masks)
        program = Program(
            scratch,
            VIDTR_MODEL_REPOSITORY=str(scratch / "models"),
            VIDTR_DEFAULT_MODEL=spec.name,
            VIDTR_TORCH_THREADS="1",
        )
        program.start()
        try:
            with Client(program.url) as client:
                client.classify(video, windows=1, evidence="causal")
                meter = Meter({"program": [program.descendants[0].pid]})
                for _ in range(given.rounds):
                    used: dict[str, float] = {}
                    with Forwards(model.path, masked, spec.max_batch_size) as forwards:
                        for kind, requests in KINDS:
                            if kind == "causal":
                                # While interactive clips are expected, a batch of evidence is cut short for them.
                                time.sleep(EXPECTED_S)
                            before, computed = forwards.done, engine_cpu_s(program)
                            meter.mark()
                            for _ in range(requests):
                                client.classify(video, windows=1, evidence=kind)
                            meter.mark()
                            used[kind] = meter.usage().cpu_s["program"] / requests
                            used[f"{kind}_engine"] = (engine_cpu_s(program) - computed) / requests
                            cpu_s, clips = (now - then for now, then in zip(forwards.done, before, strict=True))
                    used["forwards"] = len(masked) * cpu_s / clips
                    rounds.append(used)
        finally:
            program.stop()
    added = [used["causal"] - used["none"] for used in rounds]
    over_engine = [
        more / (used["causal_engine"] - used["none_engine"]) for more, used in zip(added, rounds, strict=True)
    ]
    over_alone = [more / used["forwards"] for more, used in zip(added, rounds, strict=True)]
    ratios = {
        "evidence added / its forwards in the worker, CPU": statistics.median(over_engine),
        "evidence added / forwards alone, CPU": statistics.median(over_alone),
    }
    figures = {"model": spec.name, "forwards": len(masked) + 1, "rounds": rounds, **ratios}
    sys.stdout.write(
        f"evidence adds {statistics.median(over_engine):.3f} of the CPU of its {len(masked)} forwards to a request "
        f"(rounds: {', '.join(f'{ratio:.3f}' for ratio in over_engine)}), and {statistics.median(over_alone):.3f} of "
        f"that of as many forwards in a process that does nothing else "
        f"({', '.join(f'{ratio:.3f}' for ratio in over_alone)})\n"
    )
    record.write(
        "evidence_cost",
        figures,
        began=began,
        ratios=ratios,
        path=given.json,
    )


if __name__ == "__main__":
    main()
