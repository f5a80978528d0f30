"""The local Triton itself, and the committed model repository served by it."""

import http.client
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from service.inference.registry import scan_repository
from service.inference.torchscript import TorchScriptBackend, TorchScriptConfig
from service.inference.triton_backend import TritonBackend, TritonConfig
from service.local import triton_process
from service.local.process import LocalServerError
from service.local.triton_process import LocalTriton
from tests.fixtures.servers import MODEL_REPOSITORY
from tests.fixtures.tiny_models import write_repository


@pytest.fixture
async def served(triton_server: LocalTriton) -> AsyncIterator[TritonBackend]:
    backend = TritonBackend(TritonConfig(triton_server.addresses.grpc))
    await backend.start()
    yield backend
    await backend.close()


@pytest.fixture
async def in_process() -> AsyncIterator[TorchScriptBackend]:
    backend = TorchScriptBackend(TorchScriptConfig(MODEL_REPOSITORY, threads=1))
    await backend.start()
    yield backend
    await backend.close()


async def test_triton_serves_the_committed_models_with_the_specs_of_their_files(served: TritonBackend) -> None:
    files = [file.spec for file in scan_repository(MODEL_REPOSITORY)]

    assert files
    assert await served.models() == files


async def test_the_committed_models_score_the_same_in_process_and_in_triton(
    served: TritonBackend, in_process: TorchScriptBackend
) -> None:
    for spec in await in_process.models():
        for batch in (1, 2, 3, spec.max_batch_size):
            clips = np.random.default_rng(batch).integers(0, 256, (batch, *spec.clip_shape), dtype=np.uint8)

            ours = await in_process.infer(spec.name, spec.version, clips)
            theirs = await served.infer(spec.name, spec.version, clips)

            for name in spec.outputs:
                np.testing.assert_allclose(getattr(theirs, name), getattr(ours, name), atol=1e-4)


async def test_the_temporal_attention_of_the_committed_models_sums_to_one(in_process: TorchScriptBackend) -> None:
    for spec in await in_process.models():
        clips = np.random.default_rng(0).integers(0, 256, (2, *spec.clip_shape), dtype=np.uint8)

        attention = (await in_process.infer(spec.name, spec.version, clips)).temporal_attention

        assert (attention >= 0).all()
        np.testing.assert_allclose(attention.sum(1), 1, atol=1e-5)


def test_metrics_are_served(triton_server: LocalTriton) -> None:
    connection = http.client.HTTPConnection(triton_server.addresses.metrics)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()

    assert "nv_inference_request_success" in text


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ('default_model_filename: "absent.pt"', "absent.pt"),
        ('input { name: "mask" data_type: TYPE_UINT8 dims: [4] }', "2 inputs configured"),
        ('output { name: "text" data_type: TYPE_STRING dims: [1] }', "TYPE_STRING is not supported"),
    ],
)
def test_a_model_that_does_not_load_ends_the_start_with_the_reason(
    triton_directory: Path, tmp_path: Path, extra: str, reason: str
) -> None:
    repository = write_repository(tmp_path / "models", extra=extra)
    server = LocalTriton(triton_directory, repository, log=tmp_path / "triton.log")

    with pytest.raises(LocalServerError, match="ended with status 1") as caught:
        server.start()

    assert reason in (tmp_path / "triton.log").read_text()
    assert str(tmp_path / "triton.log") in str(caught.value)
    assert server.pid is None


def test_a_path_with_a_space_is_refused_in_words_and_a_link_to_it_is_served(
    triton_directory: Path, tmp_path: Path
) -> None:
    spaced, link = tmp_path / "my models", tmp_path / "models"
    spaced.mkdir()
    write_repository(spaced)
    with pytest.raises(LocalServerError, match="my models: its name has a space"):
        LocalTriton(triton_directory, spaced, log=tmp_path / "triton.log").start()
    link.symlink_to(spaced)
    with LocalTriton(triton_directory, link, log=tmp_path / "triton.log") as server:
        server.check()


def test_a_server_keeps_its_addresses_over_a_restart(triton_directory: Path, tmp_path: Path) -> None:
    server = LocalTriton(triton_directory, write_repository(tmp_path / "models"), log=tmp_path / "triton.log")
    before = server.addresses
    for _ in range(2):
        server.start()
        server.stop()

    assert server.addresses == before


@pytest.mark.parametrize(
    "fails",
    ["kill -ABRT $$", "kill -SEGV $$", "echo \"Stub process 'm_0_0' is not healthy.\"; exit 1", "exec sleep 600"],
    ids=["aborts", "crashes", "gives a model up", "waits for ever"],
)
def test_a_server_that_fails_at_its_start_is_started_again(
    triton_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    real, begun = LocalTriton._command, []

    def command(server: LocalTriton) -> list[str]:
        begun.append(server)
        return ["/bin/sh", "-c", fails] if len(begun) == 1 else real(server)

    monkeypatch.setattr(LocalTriton, "_command", command)
    monkeypatch.setattr(triton_process, "_STILL_S", 2.0)
    with LocalTriton(triton_directory, MODEL_REPOSITORY, log=tmp_path / "triton.log") as server:
        assert server.pid
    assert len(begun) > 1


def test_a_server_that_computes_for_longer_than_it_has_is_not_started_again(
    triton_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    def command(server: LocalTriton) -> list[str]:
        begun.append(server)
        return ["/bin/sh", "-c", "while :; do :; done"]

    monkeypatch.setattr(LocalTriton, "_command", command)
    monkeypatch.setattr(triton_process, "_START_TIMEOUT_S", 1.0)
    with pytest.raises(LocalServerError, match="was not ready after 1 s"):
        LocalTriton(triton_directory, MODEL_REPOSITORY, log=tmp_path / "triton.log").start()
    assert len(begun) == 1


def test_a_server_that_aborts_at_every_start_is_an_error(
    triton_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalTriton, "_command", lambda server: ["/bin/sh", "-c", "kill -ABRT $$"])
    with pytest.raises(LocalServerError, match="ended with status -6"):
        LocalTriton(triton_directory, MODEL_REPOSITORY, log=tmp_path / "triton.log").start()
