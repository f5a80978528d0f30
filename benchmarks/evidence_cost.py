"""What exact causal evidence costs beside the forwards that it is made of, in CPU seconds.

    python -m benchmarks.evidence_cost [--model camera_motion] [--rounds 5] [--json FILE]

In each round, one after the other: a request for one window without evidence and one with it, to the whole program,
whose API, worker and Redis are counted together; and as many forwards of the same file as the evidence takes beside the
whole clip, as the in-process engine runs it, in the same batches, in this process. The ratio is what evidence adds to a
request, over those forwards; CPU seconds, because they say the same on a machine that does other work.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import record
from benchmarks.common.cpu import Meter
from benchmarks.common.models import NAMES, as_served, model_of
from service.client import Client
from service.evidence import EXACT_FRAMES, plan, variants
from service.inference.allocator import tune_malloc
from testing.program import Program
from testing.videos import write_video

SECONDS, FPS = 2, 30


def forwards_cpu_s(path: Path, masked: np.ndarray, batch: int) -> float:
    """CPU seconds of the forwards of clips `(M, T, H, W, 3)`, nothing beside them."""
    forward, clips = as_served(path), torch.from_numpy(masked)
    forward(clips[:batch])  # the first forward prepares itself
    began = time.process_time()
    for first in range(0, len(clips), batch):
        forward(clips[first : first + batch])
    return time.process_time() - began


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=NAMES, default="camera_motion")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    began = record.machine()
    tune_malloc()
    torch.set_num_threads(1)
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
                    used = {}
                    for kind in ("none", "causal"):
                        meter.mark()
                        client.classify(video, windows=1, evidence="causal" if kind == "causal" else "none")
                        meter.mark()
                        used[kind] = meter.usage().cpu_s["program"]
                    used["forwards"] = forwards_cpu_s(model.path, masked, spec.max_batch_size)
                    rounds.append(used)
        finally:
            program.stop()
    ratios = [(used["causal"] - used["none"]) / used["forwards"] for used in rounds]
    whole = [used["causal"] / (used["forwards"] * (len(masked) + 1) / len(masked)) for used in rounds]
    figures = {
        "model": spec.name,
        "forwards": len(masked) + 1,
        "rounds": rounds,
        "added_over_forwards": statistics.median(ratios),
        "request_over_forwards": statistics.median(whole),
    }
    sys.stdout.write(
        f"evidence adds {figures['added_over_forwards']:.3f} of the CPU of its {len(masked)} forwards to a request "
        f"(rounds: {', '.join(f'{ratio:.3f}' for ratio in ratios)}); the whole request, decoding too, takes "
        f"{figures['request_over_forwards']:.3f} of {len(masked) + 1} forwards\n"
    )
    record.write(
        "evidence_cost",
        figures,
        began=began,
        ratios={"evidence added / its forwards, CPU": statistics.median(ratios)},
        path=given.json,
    )


if __name__ == "__main__":
    main()
