"""LitServe: decoding in `decode_request`, batches made by the server, WORKERS processes with the network."""

from __future__ import annotations

from typing import Any

import litserve as ls
import numpy as np

from benchmarks.peers.common import BATCH, BATCH_WAIT_S, PORT, WORKERS, Network, decode


class Classifier(ls.LitAPI):
    """The hooks. LitServe makes its route of their annotations; without any it takes forms."""

    def setup(self, device: str) -> None:
        self.network = Network()

    def decode_request(self, request):  # type: ignore[no-untyped-def]
        return decode(request["file"].file.read())

    def batch(self, inputs: list[Any]) -> Any:
        return np.stack(inputs)

    def predict(self, x: Any) -> Any:
        return self.network(x if x.ndim == 5 else x[None])

    def unbatch(self, output: Any) -> Any:
        return output

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        return output[0] if isinstance(output, list) else output


if __name__ == "__main__":
    api = Classifier(max_batch_size=BATCH, batch_timeout=BATCH_WAIT_S if BATCH > 1 else 0.0, api_path="/classify")
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=WORKERS, timeout=120)
    server.run("127.0.0.1", PORT, generate_client_file=False, log_level="warning")
