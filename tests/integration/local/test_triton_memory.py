"""The shared memory of a local Triton: large enough from the start, and gone with the server."""

import os
import signal
import subprocess
import sys
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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_server_that_does_not_start_says_how_little_shared_memory_is_left(
    triton_directory: Path, tmp_path: Path
) -> None:
    script = f"""
from pathlib import Path
from service.local.process import LocalServerError
from service.local.triton_process import LocalTriton
try:
    LocalTriton(Path({str(triton_directory)!r}), Path({str(MODEL_REPOSITORY)!r}), log=Path("triton.log")).start()
except LocalServerError as error:
    print(error)
"""
    command = 'mount -t tmpfs -o size=100k none /dev/shm && exec "$@"'
    started = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command, "sh", sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare" in started.stderr or "mount:" in started.stderr:
        pytest.skip("no file systems can be mounted here")
    assert f"{SHM} has 0.1 MiB free" in started.stdout, started.stdout + started.stderr


def test_a_region_begins_small_where_shared_memory_is_scarce(tmp_path: Path) -> None:
    scarce = SharedRegions("vidtr_", folder=tmp_path / "none")

    assert scarce.options() == ["shm-region-prefix-name=vidtr_"]
