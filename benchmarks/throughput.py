"""End-to-end clips per second against raw TorchScript on the same threads, measured side by side in one run.

End to end: clips are put into a private Redis as the API puts them (payloads, then the job), a real worker process
scores them, and a job counts when its result has arrived. Raw: the same `model.pt`, the same batch size, one process,
nothing else. Rounds of both alternate, so that a machine whose speed drifts slows both; the ratio is that of medians.

    python -m benchmarks.throughput [--size tiny|small|full] [--clips N] [--rounds N] [--threads N] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from uuid import uuid4

import numpy as np
import torch

from service.contracts import DecodedVideo, JobRecord, JobRequest, ModelSpec, SampledWindow, VideoInfo
from service.inference.registry import ModelFile, scan_repository
from service.local.process import ServerProcess
from service.local.redis import LocalRedis
from service.model.card import ModelCard
from service.model.config import VidTrConfig
from service.model.export import export_model
from service.model.vidtr import VidTr
from service.queue.bus import ResultBus
from service.queue.connection import connect
from service.queue.jobs import JobStore, JobTimes
from service.queue.keys import Keys
from service.queue.models import ModelDirectory
from service.settings import Settings

# Sizes of C-VidTr in the paper's form: (pixels, patch, depth, heads, width, MLP width), and clips in a round.
SIZES = {
    "tiny": ((64, 16, 4, 4, 64, 128), 400),
    "small": ((112, 16, 6, 4, 192, 768), 96),
    "full": ((224, 16, 12, 12, 768, 3072), 16),
}


def export(size: str, repository: Path) -> ModelFile:
    """A network of random weights in its own repository."""
    pixels, patch, depth, heads, dim, mlp_dim = SIZES[size][0]
    torch.manual_seed(0)
    config = VidTrConfig(
        height=pixels,
        width=pixels,
        frames=8,
        patch=patch,
        depth=depth,
        heads=heads,
        dim=dim,
        mlp_dim=mlp_dim,
        classes=400,
        pooling=((1, 6), (3, 4)),
    )
    card = ModelCard(
        labels=tuple(f"label {i}" for i in range(400)),
        trained=False,
        description="benchmark",
        frame_step=8,
        reference_fps=30.0,
        resize_short_side=pixels,
    )
    export_model(VidTr(config).eval(), repository, name=f"bench_{size}", version=1, card=card)
    [found] = scan_repository(repository)
    return found


def raw_round(network: torch.jit.ScriptModule, clips: torch.Tensor, batch: int) -> float:
    """Clips per second of the bare network."""
    started = time.perf_counter()
    with torch.inference_mode(), torch.jit.optimized_execution(False):
        for first in range(0, len(clips), batch):
            network(clips[first : first + batch])
    return len(clips) / (time.perf_counter() - started)


def job_of(spec: ModelSpec) -> JobRecord:
    """A job of one clip, as the API would make it."""
    now = time.time()
    decoded = DecodedVideo(
        video=VideoInfo(
            duration_s=spec.span_s,
            width=spec.width,
            height=spec.height,
            fps=30.0,
            container="mp4",
            codec="h264",
            rotation=0,
            frames_decoded=spec.frames,
        ),
        coverage=1.0,
        windows=(SampledWindow(start_s=0.0, end_s=spec.span_s, times_s=(0.0,) * spec.frames),),
        crops=1,
        clip_shape=spec.clip_shape,
        decode_ms=0.0,
    )
    return JobRecord(
        id=uuid4().hex,
        request=JobRequest(),
        spec=spec,
        decoded=decoded,
        created_at=now,
        enqueued_at=now,
        deadline_at=now + 600,
        upload_ms=0.0,
    )


class Service:
    """Queue and worker as they run in production, without the HTTP front."""

    def __init__(self, redis_url: str, keys: Keys, times: JobTimes) -> None:
        self.redis = connect(redis_url, name="bench")
        self.listening = connect(redis_url, name="bench-bus", socket_timeout_s=None)
        self.store = JobStore(self.redis, keys, times)
        self.directory = ModelDirectory(self.redis, keys)
        self.bus = ResultBus(self.listening, keys, self.store)

    async def spec(self) -> ModelSpec:
        """The worker's model, once it serves."""
        while not (served := await self.directory.list()):  # noqa: ASYNC110 - another process's doing, nothing to await
            await asyncio.sleep(0.1)
        return served[0]

    async def round(self, spec: ModelSpec, clips: np.ndarray, in_flight: int) -> float:
        """Clips per second with `in_flight` one-clip jobs on their way at any moment."""
        gate = asyncio.Semaphore(in_flight)

        async def one(clip: np.ndarray) -> None:
            async with gate:
                job = job_of(spec)
                await self.store.put_payloads(job.id, memoryview(clip).cast("B"), spec.clip_bytes)
                await self.store.accept(job)
                outcome = await self.bus.wait(job.id, 600)
                assert outcome is not None
                assert outcome.result is not None

        started = time.perf_counter()
        await asyncio.gather(*(one(clip) for clip in clips))
        return len(clips) / (time.perf_counter() - started)

    async def close(self) -> None:
        """Close the connections."""
        await self.bus.close()
        await self.listening.aclose()
        await self.redis.aclose()


async def measure(arguments: argparse.Namespace, model: ModelFile, service: Service) -> dict[str, list[float]]:
    """Alternate rounds of both."""
    torch.set_num_threads(arguments.threads)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit")
        network = torch.jit.load(str(model.path))
    spec = await service.spec()
    await service.bus.start()
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (arguments.clips, *spec.clip_shape), dtype=np.uint8)
    batch = spec.max_batch_size
    raw_round(network, torch.from_numpy(clips[: 2 * batch]), batch)
    await service.round(spec, clips[: 2 * batch], 2 * batch)
    rounds: dict[str, list[float]] = {"raw": [], "end_to_end": []}
    for _ in range(arguments.rounds):
        rounds["raw"].append(raw_round(network, torch.from_numpy(clips), batch))
        rounds["end_to_end"].append(await service.round(spec, clips, 4 * batch))
    return rounds


async def run(arguments: argparse.Namespace) -> dict[str, object]:
    """Start Redis and a worker, measure, stop them."""
    with tempfile.TemporaryDirectory(prefix="vidtr-bench-") as scratch:
        model = export(arguments.size, Path(scratch) / "models")
        with LocalRedis(Path(scratch) / "redis", persist=False) as redis:
            settings = Settings(
                redis_url=redis.url,
                model_repository=Path(scratch) / "models",
                torch_threads=arguments.threads,
                log_level="error",
            )
            worker = ServerProcess(
                [sys.executable, "-m", "service.cli.main", "worker"],
                name="the worker",
                log=Path(scratch) / "worker.log",
                environment=settings.child_environment(),
            )
            service = Service(redis.url, Keys(settings.redis_prefix), settings.narrowed(JobTimes))
            worker.start()
            try:
                rounds = await measure(arguments, model, service)
            finally:
                await service.close()
                worker.stop(10)
    medians = {name: statistics.median(values) for name, values in rounds.items()}
    return {
        "benchmark": "throughput",
        "size": arguments.size,
        "clips_per_round": arguments.clips,
        "threads": arguments.threads,
        "batch": model.spec.max_batch_size,
        "clips_per_s": rounds,
        "median_clips_per_s": medians,
        "ratio": medians["end_to_end"] / medians["raw"],
        "machine": {"processor": platform.machine(), "python": platform.python_version(), "torch": torch.__version__},
    }


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    parser.add_argument("--clips", type=int, default=0, help="clips in a round; 0 takes a number that suits the size")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="threads of one forward, the same on both sides")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/throughput.json"))
    arguments = parser.parse_args()
    arguments.clips = arguments.clips or SIZES[arguments.size][1]
    result = asyncio.run(run(arguments))
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    medians = result["median_clips_per_s"]
    assert isinstance(medians, dict)
    print(
        f"{arguments.size} model, {arguments.threads} thread(s): end to end {medians['end_to_end']:.1f} clips/s, "
        f"raw TorchScript {medians['raw']:.1f} clips/s, ratio {result['ratio']:.3f} (median of {arguments.rounds})"
    )


if __name__ == "__main__":
    main()
