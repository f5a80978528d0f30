"""A real Triton whose processes are halted for longer than its Python backend bears, as those of a machine asleep."""

import asyncio
import signal
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from service.errors import VidtrError
from service.inference.triton_backend import TritonBackend, TritonConfig
from service.local.triton_process import LocalTriton
from tests.fixtures.servers import MODEL_REPOSITORY

CALLERS = 4
HALTS = 5
HALT_S = 2.0
BETWEEN_S = 1.0


def processes(server: LocalTriton, *, whole: bool) -> list[psutil.Process]:
    """Those of the models, and where `whole` the server too."""
    parent = psutil.Process(server.pid)
    return [*([parent] if whole else []), *parent.children(recursive=True)]


def send(number: int, targets: list[psutil.Process]) -> None:
    for process in targets:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("whole", [False, True])
async def test_a_server_that_was_halted_gives_no_caller_the_answer_of_another(
    triton_directory: Path, tmp_path: Path, whole: bool
) -> None:
    with LocalTriton(triton_directory, MODEL_REPOSITORY, log=tmp_path / "triton.log") as server:
        backend = TritonBackend(TritonConfig(server.addresses.grpc))
        await backend.start()
        [spec, *_] = await backend.models()
        rng = np.random.default_rng(0)
        clips = rng.integers(0, 256, (CALLERS, 1, *spec.clip_shape), dtype=np.uint8)
        expected = [(await backend.infer(spec.name, spec.version, clip)).logits for clip in clips]
        answered, over = 0, asyncio.Event()

        async def call(number: int) -> None:
            nonlocal answered
            while not over.is_set():
                try:
                    answer = await backend.infer(spec.name, spec.version, clips[number])
                except VidtrError:
                    await asyncio.sleep(0.05)
                    continue
                np.testing.assert_allclose(answer.logits, expected[number], atol=1e-4)
                answered += 1

        async def halts() -> None:
            for _ in range(HALTS):
                await asyncio.sleep(BETWEEN_S)
                if server.pid is None:
                    server.start()
                halted = processes(server, whole=whole)
                send(signal.SIGSTOP, halted)
                await asyncio.sleep(HALT_S)
                send(signal.SIGCONT, halted)
            await asyncio.sleep(BETWEEN_S)
            over.set()

        try:
            async with asyncio.TaskGroup() as group:
                for number in range(CALLERS):
                    group.create_task(call(number))
                group.create_task(halts())
        finally:
            await backend.close()
    assert answered
