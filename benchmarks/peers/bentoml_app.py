"""BentoML: a service that decodes, in WORKERS processes, before one that batches adaptively and runs the network.

Served by `bentoml serve benchmarks.peers.bentoml_app:Front`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import bentoml
import numpy as np

from benchmarks.peers.common import BATCH, SPEC, WORKERS, Network, decode

LONGEST_WAIT_MS = 60_000


@bentoml.service(workers=1, traffic={"timeout": 120})
class Model:
    """The network alone, as the documentation advises for work that batches."""

    def __init__(self) -> None:
        self.network = Network()

    # It takes no batch of one for a batch.
    @bentoml.api(batchable=True, max_batch_size=max(2, BATCH), max_latency_ms=LONGEST_WAIT_MS)
    def predict(self, clips: np.ndarray) -> list[dict[str, Any]]:
        """Clips `[B, T, H, W, 3]`."""
        return self.network(clips.reshape(-1, *SPEC.clip_shape))


@bentoml.service(workers=WORKERS, traffic={"timeout": 120})
class Front:
    """Takes uploads and decodes them."""

    model = bentoml.depends(Model)

    @bentoml.api(route="/classify")
    async def classify(self, file: Path) -> dict[str, Any]:
        """One video; BentoML stores the upload as a file."""
        # Decoding blocks, and would hold up the other requests of the process.
        clip = await anyio.to_thread.run_sync(lambda: decode(file.read_bytes()))
        return (await self.model.to_async.predict(clip[None]))[0]
