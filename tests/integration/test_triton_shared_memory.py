"""Clips through shared memory, to a real Triton on this host."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from tritonclient.grpc.aio import InferenceServerClient

from service.errors import BackendFailed, BackendUnavailable
from service.inference import shared_memory
from service.inference.triton_backend import TritonBackend, TritonConfig
from service.local.triton_process import LocalTriton
from tests.fixtures.tiny_models import BUSY, FRAMES, MAX_BATCH_SIZE, RAISE, random_clips, write_repository

pytestmark = pytest.mark.skipif(not shared_memory.SHM.is_dir(), reason="no /dev/shm on this system")


@pytest.fixture(scope="module")
def server(triton_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalTriton]:
    directory = tmp_path_factory.mktemp("shared-memory")
    repository = write_repository(directory / "models")
    with LocalTriton(triton_directory, repository, log=directory / "triton.log") as server:
        yield server


@asynccontextmanager
async def connected(server: LocalTriton, *, shared: bool, timeout_s: float = 30.0) -> AsyncIterator[TritonBackend]:
    backend = TritonBackend(TritonConfig(server.addresses.grpc, timeout_s, shared_memory=shared))
    await backend.start()
    yield backend
    await backend.close()


@pytest.fixture
async def backend(server: LocalTriton) -> AsyncIterator[TritonBackend]:
    async with connected(server, shared=True) as backend:
        yield backend


async def regions(server: LocalTriton) -> set[str]:
    async with InferenceServerClient(server.addresses.grpc) as client:
        return set((await client.get_system_shared_memory_status()).regions)


def segments() -> set[str]:
    return {path.name for path in shared_memory.SHM.glob("vidtr-*")}


@pytest.mark.parametrize("batch", range(1, MAX_BATCH_SIZE + 1))
async def test_scores_are_those_of_clips_that_are_sent(server: LocalTriton, backend: TritonBackend, batch: int) -> None:
    clips = random_clips(batch, seed=batch)
    async with connected(server, shared=False) as inline:
        sent = await inline.infer("tiny", "1", clips)

    shared = await backend.infer("tiny", "1", clips)

    for name in ("logits", "temporal_attention", "layer_attention", "layer_retention"):
        np.testing.assert_array_equal(getattr(shared, name), getattr(sent, name))
    assert await regions(server)


async def test_one_slot_serves_calls_that_come_one_after_another(server: LocalTriton, backend: TritonBackend) -> None:
    for seed in range(5):
        await backend.infer("tiny", "1", random_clips(1 + seed % MAX_BATCH_SIZE, seed))

    assert len(await regions(server)) == 1


async def test_concurrent_calls_have_slots_of_their_own(server: LocalTriton, backend: TritonBackend) -> None:
    clips = [random_clips(1, seed) for seed in range(6)]
    async with connected(server, shared=False) as inline:
        alone = [await inline.infer("tiny", "1", one) for one in clips]

    together = await asyncio.gather(*(backend.infer("tiny", "1", one) for one in clips))

    for ours, theirs in zip(alone, together, strict=True):
        np.testing.assert_allclose(theirs.logits, ours.logits, atol=1e-4)
    assert len(await regions(server)) > 1


async def test_nothing_is_left_after_closing(server: LocalTriton) -> None:
    async with connected(server, shared=True) as backend:
        await asyncio.gather(*(backend.infer("tiny", "1", random_clips(1, seed)) for seed in range(4)))
        assert await regions(server)
        assert segments() == set()

    assert await regions(server) == set()


async def test_a_region_that_triton_still_reads_is_unregistered_when_it_has_read_it(server: LocalTriton) -> None:
    async with connected(server, shared=True) as backend:
        with pytest.raises(BackendUnavailable, match="DEADLINE_EXCEEDED"):
            await backend.infer("tiny", "1", random_clips(1, command=BUSY), timeout_s=0.05)

    assert await regions(server) == set()


async def test_clips_that_do_not_fit_the_model_fail_as_they_do_when_sent(backend: TritonBackend) -> None:
    with pytest.raises(BackendFailed, match="INVALID_ARGUMENT"):
        await backend.infer("tiny", "1", random_clips(1)[:, : FRAMES - 1])
    with pytest.raises(BackendFailed, match="INVALID_ARGUMENT"):
        await backend.infer("tiny", "1", random_clips(MAX_BATCH_SIZE + 1))
    with pytest.raises(BackendFailed, match="the clip asked for an exception"):
        await backend.infer("tiny", "1", random_clips(1, command=RAISE))


async def test_the_slot_of_a_call_that_was_given_up_serves_the_next(server: LocalTriton) -> None:
    clips = random_clips(2, seed=9)
    async with connected(server, shared=False) as inline:
        expected = await inline.infer("tiny", "1", clips)
    async with connected(server, shared=True) as backend:
        with pytest.raises(BackendUnavailable, match="DEADLINE_EXCEEDED"):
            await backend.infer("tiny", "1", random_clips(1, command=BUSY), timeout_s=0.05)

        np.testing.assert_array_equal((await backend.infer("tiny", "1", clips)).logits, expected.logits)

        assert len(await regions(server)) == 1


async def test_a_restart_of_triton_is_survived(triton_directory: Path, tmp_path: Path) -> None:
    repository = write_repository(tmp_path / "models")
    with LocalTriton(triton_directory, repository, log=tmp_path / "triton.log") as server:
        async with connected(server, shared=True) as backend:
            before = (await backend.infer("tiny", "1", random_clips(1))).logits
            old = await regions(server)
            psutil.Process(server.pid).kill()
            await asyncio.to_thread(server.stop)
            with pytest.raises(BackendUnavailable):
                await backend.infer("tiny", "1", random_clips(1))
            await asyncio.to_thread(server.start)

            after = await until_it_answers(backend)

            np.testing.assert_array_equal(after, before)
            new = await regions(server)
            assert len(new) == 1
            assert new.isdisjoint(old)
    assert segments() == set()


async def until_it_answers(backend: TritonBackend) -> np.ndarray:
    while True:
        try:
            return (await backend.infer("tiny", "1", random_clips(1))).logits
        except BackendUnavailable:
            await asyncio.sleep(0.05)


async def test_memory_that_triton_cannot_open_is_said_once_and_clips_are_sent(
    server: LocalTriton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # A folder of its own: what a Triton on another host sees of this one's /dev/shm is nothing.
    monkeypatch.setattr(shared_memory, "SHM", tmp_path)
    async with connected(server, shared=False) as inline, connected(server, shared=True) as backend:
        for seed in range(3):
            clips = random_clips(2, seed)
            expected = await inline.infer("tiny", "1", clips)
            np.testing.assert_array_equal((await backend.infer("tiny", "1", clips)).logits, expected.logits)

    warnings = [record.getMessage() for record in caplog.records if "shared memory" in record.getMessage()]
    assert len(warnings) == 1
    assert "Triton says" in warnings[0]
    assert list(tmp_path.iterdir()) == []


async def test_a_full_or_missing_dev_shm_is_said_once_and_clips_are_sent(
    server: LocalTriton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shared_memory, "SHM", tmp_path / "absent")
    async with connected(server, shared=True) as backend:
        for seed in range(3):
            await backend.infer("tiny", "1", random_clips(1, seed))

    warnings = [record.getMessage() for record in caplog.records if "shared memory" in record.getMessage()]
    assert len(warnings) == 1
    assert "No such file or directory" in warnings[0]


KILLED = """
import asyncio, os, signal, sys
from service.inference.triton_backend import TritonBackend, TritonConfig
from tests.fixtures.tiny_models import random_clips

async def main():
    backend = TritonBackend(TritonConfig(sys.argv[1], shared_memory=True))
    await backend.start()
    await backend.infer("tiny", "1", random_clips(1))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_a_killed_worker_leaves_no_segment_and_the_next_one_takes_its_region_away(server: LocalTriton) -> None:
    command = [sys.executable, "-c", KILLED, server.addresses.grpc]
    root = Path(__file__).parents[2]
    done = await asyncio.to_thread(subprocess.run, command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    assert done.returncode == -signal.SIGKILL
    assert segments() == set()
    left = await regions(server)
    assert len(left) == 1

    async with connected(server, shared=True) as backend:
        await backend.infer("tiny", "1", random_clips(1))
        assert left.isdisjoint(await regions(server))
