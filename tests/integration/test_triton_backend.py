"""The Triton backend against a real server that serves the tiny network."""

import asyncio
import http.client
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from tritonclient.grpc.aio import InferenceServerClient

from service.errors import BackendFailed, BackendUnavailable
from service.inference.backend import Scores
from service.inference.registry import scan_repository
from service.inference.torchscript import TorchScriptBackend, TorchScriptConfig
from service.inference.triton_backend import TritonBackend, TritonConfig
from service.local.triton_process import LocalTriton
from tests.fixtures.tiny_models import (
    BUSY,
    FRAMES,
    MAX_BATCH_SIZE,
    NOT_A_NUMBER,
    RAISE,
    config_text,
    random_clips,
    save_network,
    write_repository,
)

# Of the server, in each run of the test that runs again: no fixture outlives the last test.
pids: list[int | None] = []


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    write_repository(root, versions=("1", "2", "10"), extra="version_policy { specific { versions: [2, 10] } }")
    foreign = root / "foreign"
    digest = save_network(foreign / "1" / "model.pt")
    text = config_text("foreign", {"1": digest}).replace('key: "labels"', 'key: "classes"')
    (foreign / "config.pbtxt").write_text(text)
    return root


@pytest.fixture(scope="module")
def server(triton_directory: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalTriton]:
    log = tmp_path_factory.mktemp("log") / "triton.log"
    with LocalTriton(triton_directory, repository, log=log) as server:
        yield server


@pytest.fixture
async def backend(server: LocalTriton) -> AsyncIterator[TritonBackend]:
    backend = TritonBackend(TritonConfig(server.addresses.grpc))
    await backend.start()
    yield backend
    await backend.close()


@pytest.fixture
async def in_process(repository: Path, tmp_path: Path) -> AsyncIterator[TorchScriptBackend]:
    shutil.copytree(repository / "tiny", tmp_path / "tiny")
    backend = TorchScriptBackend(TorchScriptConfig(tmp_path, threads=1))
    await backend.start()
    yield backend
    await backend.close()


async def test_ready_versions_are_listed_and_foreign_models_left_out(backend: TritonBackend) -> None:
    assert [(spec.name, spec.version) for spec in await backend.models()] == [("tiny", "2"), ("tiny", "10")]


async def test_a_foreign_model_is_logged_once(backend: TritonBackend, caplog: pytest.LogCaptureFixture) -> None:
    await backend.models()
    await backend.models()

    assert len([record for record in caplog.records if "foreign" in record.getMessage()]) == 1


async def test_both_backends_read_the_same_specs(backend: TritonBackend, in_process: TorchScriptBackend) -> None:
    assert await backend.models() == await in_process.models()


@pytest.mark.parametrize("batch", range(1, MAX_BATCH_SIZE + 1))
async def test_both_backends_give_the_same_scores(
    backend: TritonBackend, in_process: TorchScriptBackend, batch: int
) -> None:
    clips = random_clips(batch, seed=batch)

    ours, theirs = await in_process.infer("tiny", "2", clips), await backend.infer("tiny", "2", clips)

    for name in ("logits", "temporal_attention", "layer_attention", "layer_retention"):
        np.testing.assert_allclose(getattr(theirs, name), getattr(ours, name), atol=1e-4)


async def test_the_version_asked_for_answers(backend: TritonBackend) -> None:
    clips = random_clips(1)

    older, newer = await backend.infer("tiny", "2", clips), await backend.infer("tiny", "10", clips)

    assert np.abs(older.logits - newer.logits).max() > 0.1


@pytest.mark.parametrize(("model", "version"), [("unknown", "1"), ("tiny", "7"), ("tiny", "1")])
async def test_a_model_or_version_that_is_not_served_fails(backend: TritonBackend, model: str, version: str) -> None:
    with pytest.raises(BackendFailed, match="NOT_FOUND"):
        await backend.infer(model, version, random_clips(1))


async def test_a_foreign_model_fails(backend: TritonBackend) -> None:
    with pytest.raises(BackendFailed, match="parameter 'labels' is missing"):
        await backend.infer("foreign", "1", random_clips(1))


async def test_clips_of_another_length_fail(backend: TritonBackend) -> None:
    with pytest.raises(BackendFailed, match="INVALID_ARGUMENT"):
        await backend.infer("tiny", "2", random_clips(1)[:, : FRAMES - 1])


async def test_a_clip_without_its_batch_dimension_fails(backend: TritonBackend) -> None:
    with pytest.raises(BackendFailed, match="INVALID_ARGUMENT"):
        await backend.infer("tiny", "2", random_clips(1)[0])


async def test_more_clips_than_the_batch_size_fail(backend: TritonBackend) -> None:
    with pytest.raises(BackendFailed, match="INVALID_ARGUMENT"):
        await backend.infer("tiny", "2", random_clips(MAX_BATCH_SIZE + 1))


async def test_clips_of_another_dtype_fail(backend: TritonBackend) -> None:
    with pytest.raises(BackendFailed, match="uint8"):
        await backend.infer("tiny", "2", random_clips(1).astype(np.float32))


async def test_an_exception_of_the_network_fails_the_call_in_one_line(backend: TritonBackend) -> None:
    with pytest.raises(BackendFailed, match=r"INTERNAL.*the clip asked for an exception") as caught:
        await backend.infer("tiny", "2", random_clips(1, command=RAISE))

    assert "\n" not in caught.value.detail


async def test_scores_that_are_no_numbers_fail(backend: TritonBackend) -> None:
    with pytest.raises(BackendFailed, match="output 'logits' holds NaN"):
        await backend.infer("tiny", "2", random_clips(1, command=NOT_A_NUMBER))


async def test_a_call_that_exceeds_its_time_is_unavailable(server: LocalTriton) -> None:
    backend = TritonBackend(TritonConfig(server.addresses.grpc, timeout_s=0.3))
    await backend.start()
    try:
        with pytest.raises(BackendUnavailable, match="DEADLINE_EXCEEDED"):
            await backend.infer("tiny", "2", random_clips(1, command=BUSY))
    finally:
        await backend.close()


async def test_concurrent_requests_share_batches(server: LocalTriton, backend: TritonBackend) -> None:
    async def counts() -> tuple[int, int]:
        async with InferenceServerClient(server.addresses.grpc) as client:
            answer = await client.get_inference_statistics("tiny", "10")
        return answer.model_stats[0].inference_count, answer.model_stats[0].execution_count

    clips_before, runs_before = await counts()
    # While the first request computes, the others gather in the queue.
    commands = [BUSY, *[0] * 8]
    calls = [backend.infer("tiny", "10", random_clips(1, seed, command)) for seed, command in enumerate(commands)]
    await asyncio.gather(*calls)
    # The statistics follow the answers a little later.
    while (after := await counts())[0] < clips_before + len(commands):  # noqa: ASYNC110 - nothing to wait for
        await asyncio.sleep(0.02)
    clips_after, runs_after = after

    assert clips_after - clips_before == len(commands)
    assert runs_after - runs_before < len(commands)


async def test_each_of_the_requests_in_a_batch_gets_its_own_scores(
    backend: TritonBackend, in_process: TorchScriptBackend
) -> None:
    clips = random_clips(8)
    alone = [await in_process.infer("tiny", "10", clips[i : i + 1]) for i in range(8)]

    together = await asyncio.gather(*(backend.infer("tiny", "10", clips[i : i + 1]) for i in range(8)))

    for ours, theirs in zip(alone, together, strict=True):
        np.testing.assert_allclose(theirs.logits, ours.logits, atol=1e-4)


async def test_a_server_that_is_away_is_unavailable(
    server: LocalTriton, triton_directory: Path, tmp_path: Path
) -> None:
    elsewhere = LocalTriton(triton_directory, tmp_path, log=tmp_path / "log").addresses.grpc
    backend = TritonBackend(TritonConfig(elsewhere))
    await backend.start()
    try:
        with pytest.raises(BackendUnavailable, match="UNAVAILABLE"):
            await backend.models()
        with pytest.raises(BackendUnavailable, match="UNAVAILABLE"):
            await backend.infer("tiny", "2", random_clips(1))
    finally:
        await backend.close()


async def test_a_call_before_the_start_is_unavailable(server: LocalTriton) -> None:
    with pytest.raises(BackendUnavailable):
        await TritonBackend(TritonConfig(server.addresses.grpc)).models()


async def test_a_call_in_flight_at_closing_is_unavailable(server: LocalTriton) -> None:
    backend = TritonBackend(TritonConfig(server.addresses.grpc))
    await backend.start()
    await backend.models()
    call = asyncio.create_task(backend.infer("tiny", "2", random_clips(1, command=BUSY)))
    await asyncio.sleep(0)
    await backend.close()

    with pytest.raises(BackendUnavailable):
        await call


async def test_a_call_that_its_caller_cancels_is_cancelled(backend: TritonBackend) -> None:
    await backend.models()
    call = asyncio.create_task(backend.infer("tiny", "2", random_clips(1, command=BUSY)))
    await asyncio.sleep(0)
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_test_whose_server_ended_by_itself_passes_when_it_is_run_again(
    server: LocalTriton, backend: TritonBackend
) -> None:
    await backend.models()
    pids.append(server.pid)
    if len(pids) == 1:
        psutil.Process(server.pid).kill()
    await asyncio.gather(*(backend.infer("tiny", "10", random_clips(1, seed, BUSY)) for seed in range(4)))
    assert len(set(pids)) == 2


async def keep_busy(server: LocalTriton, backend: TritonBackend) -> list[asyncio.Task[Scores]]:
    """Calls of which at least one is being computed: one more than fit into a batch, and some of them wait."""
    calls = [
        asyncio.create_task(backend.infer("tiny", "1", random_clips(1, command=BUSY)))
        for _ in range(MAX_BATCH_SIZE + 1)
    ]
    while waiting_requests(server) == 0:  # noqa: ASYNC110 - nothing to wait for
        await asyncio.sleep(0.02)
    return calls


def waiting_requests(server: LocalTriton) -> int:
    connection = http.client.HTTPConnection(server.addresses.metrics)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    return int(re.findall(r'^nv_inference_pending_request_count\{model="tiny",version="1"\} (\d+)', text, re.M)[0])


async def until_it_answers(backend: TritonBackend) -> np.ndarray:
    while True:
        try:
            return (await backend.infer("tiny", "1", random_clips(1))).logits
        except BackendUnavailable:
            await asyncio.sleep(0.05)


@pytest.fixture
def private_server(triton_directory: Path, tmp_path: Path) -> Iterator[LocalTriton]:
    with LocalTriton(triton_directory, write_repository(tmp_path / "models"), log=tmp_path / "triton.log") as server:
        yield server


@pytest.fixture
async def private_backend(private_server: LocalTriton) -> AsyncIterator[TritonBackend]:
    backend = TritonBackend(TritonConfig(private_server.addresses.grpc))
    await backend.start()
    yield backend
    await backend.close()


async def test_a_killed_server_is_unavailable_and_back_after_its_restart(
    private_server: LocalTriton, private_backend: TritonBackend
) -> None:
    before = (await private_backend.infer("tiny", "1", random_clips(1))).logits
    calls = await keep_busy(private_server, private_backend)
    psutil.Process(private_server.pid).kill()

    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {BackendUnavailable}

    private_server.stop()
    private_server.start()
    np.testing.assert_array_equal(await until_it_answers(private_backend), before)


async def test_every_call_to_a_stopping_server_answers_or_is_unavailable(
    private_server: LocalTriton, private_backend: TritonBackend
) -> None:
    # A server that still computes keeps its port open after SIGTERM, and answers until it refuses.
    calls = await keep_busy(private_server, private_backend)
    stopping = asyncio.create_task(asyncio.to_thread(private_server.stop))
    refused = 0
    while not stopping.done():
        try:
            await private_backend.infer("tiny", "1", random_clips(1))
        except BackendUnavailable:
            refused += 1
            await asyncio.sleep(0.01)
    await stopping
    for ended in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(ended, Scores | BackendUnavailable)

    assert refused > 0


async def test_requests_in_flight_are_answered_before_the_server_stops(
    private_server: LocalTriton, private_backend: TritonBackend
) -> None:
    calls = await keep_busy(private_server, private_backend)

    status = await asyncio.to_thread(private_server.stop)

    assert status == 0
    ended = await asyncio.gather(*calls, return_exceptions=True)
    answered = [scores for scores in ended if isinstance(scores, Scores)]
    # The batch being computed and the call that was seen to wait; others may still have been on their way.
    assert len(answered) >= 2
    assert {type(other) for other in ended if not isinstance(other, Scores)} <= {BackendUnavailable}


def test_a_stopped_server_leaves_no_process(private_server: LocalTriton) -> None:
    server = psutil.Process(private_server.pid)
    family = [server, *server.children(recursive=True)]
    private_server.stop()

    assert len(family) > 1
    assert psutil.wait_procs(family, timeout=30)[1] == []


def test_scanning_finds_what_the_server_serves(repository: Path, tmp_path: Path) -> None:
    shutil.copytree(repository / "tiny", tmp_path / "tiny")

    assert [file.spec.version for file in scan_repository(tmp_path)] == ["2", "10"]
