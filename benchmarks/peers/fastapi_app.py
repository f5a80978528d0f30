"""The plainest handler: FastAPI runs it in a thread of its pool, decodes everything, runs the network inline."""

from __future__ import annotations

from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, File, UploadFile

from benchmarks.peers.common import PORT, WORKERS, Network, decode

app = FastAPI()
network = Network()


@app.post("/classify")
def classify(file: Annotated[UploadFile, File()]) -> dict[str, Any]:
    """One video, one clip, one forward."""
    return network(decode(file.file.read())[None])[0]


@app.get("/ready")
def ready() -> dict[str, Any]:
    """Answers once the network is loaded."""
    return {}


if __name__ == "__main__":
    # Loading the network may take longer than the few seconds after which uvicorn replaces a silent worker.
    options = {"workers": WORKERS, "timeout_worker_healthcheck": 60}
    uvicorn.run("benchmarks.peers.fastapi_app:app", port=PORT, access_log=False, log_level="warning", **options)
