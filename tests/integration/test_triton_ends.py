"""A test under which a local Triton ends is run again, with the server started anew."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from service.inference.triton_backend import TritonBackend, TritonConfig
from service.local.triton_process import LocalTriton
from tests.fixtures.tiny_models import BUSY, random_clips, write_repository

runs: list[int] = []


@pytest.fixture(scope="module")
def server(triton_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalTriton]:
    folder = tmp_path_factory.mktemp("ends")
    with LocalTriton(triton_directory, write_repository(folder / "models"), log=folder / "triton.log") as server:
        yield server


@pytest.fixture
async def backend(server: LocalTriton) -> AsyncIterator[TritonBackend]:
    backend = TritonBackend(TritonConfig(server.addresses.grpc))
    await backend.start()
    yield backend
    await backend.close()


async def test_a_test_whose_server_ended_by_itself_passes_when_it_is_run_again(
    server: LocalTriton, backend: TritonBackend
) -> None:
    await backend.models()
    assert server.pid is not None
    runs.append(server.pid)
    if len(runs) == 1:
        os.kill(server.pid, signal.SIGKILL)
    await asyncio.gather(*(backend.infer("tiny", "1", random_clips(1, seed, BUSY)) for seed in range(4)))
    assert len(set(runs)) == 2
