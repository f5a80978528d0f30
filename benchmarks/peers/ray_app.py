"""Ray Serve: WORKERS replicas, each decodes in threads and joins what it decoded with `serve.batch`."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import ray
from ray import serve
from starlette.requests import Request

from benchmarks.peers.common import BATCH, BATCH_WAIT_S, PORT, THREADS, WORKERS, Network, decode


@serve.deployment(
    num_replicas=WORKERS, max_ongoing_requests=4 * BATCH, ray_actor_options={"num_cpus": 0.5, "num_gpus": 0}
)
class Classifier:
    """One replica."""

    def __init__(self) -> None:
        self.network = Network()

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=BATCH_WAIT_S)
    async def infer(self, clips: list[np.ndarray]) -> list[dict[str, Any]]:
        """Clips of several requests."""
        return await asyncio.to_thread(self.network, np.stack(clips))

    async def __call__(self, request: Request) -> dict[str, Any]:
        """One upload."""
        form = await request.form()
        video = await form["file"].read()
        return await self.infer(await asyncio.to_thread(decode, video))


if __name__ == "__main__":
    ray.init(include_dashboard=False, runtime_env={"env_vars": {"OMP_NUM_THREADS": str(THREADS)}})
    serve.start(http_options={"port": PORT, "host": "127.0.0.1"})
    serve.run(Classifier.bind(), route_prefix="/classify")
    threading.Event().wait()
