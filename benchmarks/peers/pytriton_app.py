"""PyTriton: the file's bytes are the input of a Python model, which Triton batches; WORKERS copies of it run.

Decoding stands in the model, on THREADS threads, because PyTriton leaves what comes before the tensors to the client.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.peers.common import BATCH, BATCH_WAIT_S, PORT, SPEC, WORKERS, Network, decode

CORES = os.cpu_count() or 1


class Classifier:
    """One copy of the model."""

    def __init__(self) -> None:
        self.network: Network | None = None

    @batch
    def __call__(self, video: np.ndarray) -> dict[str, np.ndarray]:
        """`video` `[B, 1]` of bytes."""
        if self.network is None:
            self.network, self.decoding = Network(), ThreadPoolExecutor(CORES)
        found = self.network(np.stack(list(self.decoding.map(decode, video[:, 0]))))
        return {
            "label": np.array([[one["label"].encode()] for one in found], dtype=np.object_),
            "score": np.array([[one["score"]] for one in found], dtype=np.float32),
        }


if __name__ == "__main__":
    ports = {f"{kind}_port": int(os.environ[f"{kind.upper()}_PORT"]) for kind in ("grpc", "metrics")}
    config = TritonConfig(http_port=PORT, http_address="127.0.0.1", **ports)
    with Triton(config=config) as triton:
        triton.bind(
            model_name=SPEC.name,
            infer_func=[Classifier() for _ in range(WORKERS)],
            inputs=[Tensor(name="video", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="label", dtype=bytes, shape=(1,)), Tensor(name="score", dtype=np.float32, shape=(1,))],
            config=ModelConfig(
                max_batch_size=BATCH,
                batcher=DynamicBatcher(max_queue_delay_microseconds=int(BATCH_WAIT_S * 1e6)),
            ),
            strict=True,
        )
        triton.serve()
