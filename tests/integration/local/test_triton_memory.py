"""The shared memory of a local Triton: large enough from the start, and gone with the server."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from service.inference.shared_memory import SHM
from service.inference.triton_backend import TritonBackend, TritonConfig
from service.local.triton_memory import REGION_BYTES, SharedRegions
from service.local.triton_process import LocalTriton
from tests.fixtures.servers import MODEL_REPOSITORY

pytestmark = pytest.mark.skipif(not SHM.is_dir(), reason="no /dev/shm on this system")


def regions(server: LocalTriton) -> list[Path]:
    return sorted(SHM.glob(f"{server.regions.prefix}*"))


async def test_a_region_does_not_grow_under_the_largest_batches(triton_server: LocalTriton) -> None:
    before = {region: region.stat().st_size for region in regions(triton_server)}
    backend = TritonBackend(TritonConfig(triton_server.addresses.grpc))
    await backend.start()
    try:
        for spec in await backend.models():
            clips = np.zeros((spec.max_batch_size, *spec.clip_shape), np.uint8)
            await backend.infer(spec.name, spec.version, clips)
    finally:
        await backend.close()

    assert set(before.values()) == {REGION_BYTES}
    assert {region: region.stat().st_size for region in regions(triton_server)} == before


def test_a_server_that_was_killed_leaves_no_region_once_it_is_stopped(triton_directory: Path, tmp_path: Path) -> None:
    server = LocalTriton(triton_directory, MODEL_REPOSITORY, log=tmp_path / "triton.log")
    server.start()
    assert server.pid
    os.kill(server.pid, signal.SIGKILL)

    server.stop()

    assert not regions(server)


def test_a_region_begins_small_where_shared_memory_is_scarce(tmp_path: Path) -> None:
    scarce = SharedRegions("vidtr_", folder=tmp_path / "none")

    assert scarce.options() == ["shm-region-prefix-name=vidtr_"]
