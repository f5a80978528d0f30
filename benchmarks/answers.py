"""What answers cost beside what is needed for them, in small: events, a film that is read by reference, evidence.

- **events**: CPU of comparing the scores of 2,000 windows with their thresholds, over that of making events.
- **reference**: bytes of a film over the bytes that are read of it for one window.
- **evidence**: CPU of the network for all sets of frames of a window, over what `evidence=causal` takes for it.

Everything runs in this process, as `vidtr classify` does, and only CPU seconds and bytes count.

    python -m benchmarks.answers [--rounds 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import record
from benchmarks.common.cpu import least_cpu_s
from benchmarks.common.models import as_served
from benchmarks.decode_videos import video
from service.cli.in_process import InProcess, classifier_in_process
from service.client import VideoUrl
from service.contracts import JobRequest
from service.evidence import plan, variants
from service.inference.registry import ModelFile, scan_repository
from service.label_events import Scored, curves, label_events
from service.moments import EventRules
from service.settings import Settings
from testing.range_server import RangeServer, Served
from testing.videos import repeated

KIND = "10 s 340p, groups of 12"
COPIES = 30
WINDOWS, LABELS = 2000, 14
SPAN_S = 1.0
SETS = 32
"""Sets of frames whose forwards are timed, of all."""


def events(rounds: int) -> dict[str, float]:
    """Of scores that rise and fall."""
    starts = np.arange(WINDOWS) * SPAN_S / 2
    windows = [(float(start), float(start) + SPAN_S) for start in starts]
    scores = 0.5 + 0.5 * np.sin(starts[:, None] / np.arange(3, 3 + LABELS))
    scored = Scored(windows, scores, (0.0, windows[-1][1]))
    labels, thresholds = [f"label {k}" for k in range(LABELS)], [0.6] * LABELS

    def plain() -> None:
        [curve] = curves(scored)
        for k in range(LABELS):
            np.flatnonzero(np.diff(curve.scores[:, k] >= thresholds[k]))

    def made() -> None:
        label_events(curves(scored), labels, thresholds, EventRules())

    return {"CPU of plain thresholds over CPU of events": least_cpu_s(plain, rounds) / least_cpu_s(made, rounds)}


def reference(run: InProcess, film: Path) -> dict[str, float]:
    """Of one window in the middle."""
    with RangeServer() as server:
        url = server.serve("/film.mp4", Served(film.read_bytes()))
        answer = run.classify(VideoUrl(url), JobRequest(windows=1))
    assert answer.source is not None
    assert answer.source.bytes_total is not None
    return {"bytes of a film over bytes read of it": answer.source.bytes_total / answer.source.bytes_read}


def evidence(run: InProcess, file: ModelFile, path: Path, rounds: int) -> dict[str, float]:
    """Of one window, with all sets of its frames."""
    spec = file.spec
    clip = np.random.default_rng(0).integers(0, 256, spec.clip_shape, dtype=np.uint8)
    kept = plan(spec.frames).kept
    clips = torch.from_numpy(variants(clip, kept[:SETS]))
    forward = as_served(file.path)

    def network() -> None:
        for batch in clips.split(spec.max_batch_size):
            forward(batch)

    def causal() -> None:
        run.classify(path, JobRequest(windows=1, attention="none", evidence="causal"))

    forward(clips[:1])
    needed = least_cpu_s(network, rounds) * len(kept) / SETS
    return {"CPU of the forwards over CPU of causal evidence": needed / least_cpu_s(causal, 1)}


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    began = record.machine()
    settings = Settings(_env_file=None, torch_threads=1)
    torch.set_num_threads(1)
    [file] = [file for file in scan_repository(settings.model_repository) if file.spec.name == settings.default_model]
    ratios: dict[str, Any] = events(arguments.rounds)
    with tempfile.TemporaryDirectory(prefix="vidtr-bench-") as scratch, classifier_in_process(settings) as run:
        path = video(Path(scratch), KIND, True)
        ratios |= reference(run, repeated(path, Path(scratch) / "film.mp4", COPIES))
        ratios |= evidence(run, file, path, arguments.rounds)
    record.write("answers", {}, began=began, ratios=ratios, path=arguments.json)
    for name, ratio in ratios.items():
        print(f"{name:55} {ratio:.3f}")


if __name__ == "__main__":
    main()
