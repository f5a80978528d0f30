"""A Triton with a key does nothing for others; its models only compute."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from service.errors import BackendUnavailable
from service.inference.triton_backend import TritonBackend, TritonConfig
from service.inference.triton_control import ModelControl
from service.local.process import LocalServerError
from service.local.triton_process import LocalTriton
from tests.fixtures.tiny_models import config_text, random_clips, write_repository
from tests.integration.inference.test_torchscript_archive import WritesInAPart, saved

KEY = "0123456789abcdef"

CODE = b"""
import pathlib
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def initialize(self, args):
        pathlib.Path("%s").write_text("ran")
"""


@pytest.fixture(scope="module")
def server(triton_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalTriton]:
    directory = tmp_path_factory.mktemp("triton")
    repository = write_repository(directory / "models")
    with LocalTriton(triton_directory, repository, log=directory / "log", explicit=True, key=KEY) as server:
        yield server


async def test_an_outsider_cannot_bring_code_into_triton(server: LocalTriton, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    config = json.dumps({"name": "evil", "backend": "python", "max_batch_size": 0})
    files = {"file:1/model.py": CODE % str(proof).encode()}
    async with InferenceServerClient(server.addresses.grpc) as outsider:
        with pytest.raises(InferenceServerException, match="restricted"):
            await outsider.load_model("evil", config=config, files=files)
    assert not proof.exists()


@pytest.mark.parametrize("key", [None, "f" * 16])
async def test_without_the_key_models_are_neither_seen_nor_used(server: LocalTriton, key: str | None) -> None:
    backend = TritonBackend(TritonConfig(server.addresses.grpc, key=key))
    await backend.start()
    try:
        with pytest.raises(BackendUnavailable, match="restricted"):
            await backend.models()
        with pytest.raises(BackendUnavailable, match="restricted"):
            await backend.infer("tiny", "1", random_clips(1))
        with pytest.raises(BackendUnavailable, match="restricted"):
            await ModelControl(server.addresses.grpc, 10, key).load("tiny")
    finally:
        await backend.close()


@pytest.mark.parametrize("shared_memory", [False, True])
async def test_a_worker_with_the_key_scores(server: LocalTriton, shared_memory: bool) -> None:
    backend = TritonBackend(TritonConfig(server.addresses.grpc, key=KEY, shared_memory=shared_memory))
    await backend.start()
    try:
        assert [spec.name for spec in await backend.models()] == ["tiny"]
        assert (await backend.infer("tiny", "1", random_clips(2))).logits.shape[0] == 2
    finally:
        await backend.close()


async def test_an_operator_with_the_key_loads(server: LocalTriton) -> None:
    assert await ModelControl(server.addresses.grpc, 60, KEY).load("tiny") == ["1"]


@pytest.mark.parametrize(
    "path", ["/v2/repository/models/tiny/unload", "/v2/repository/index", "/v2/systemsharedmemory/unregister"]
)
def test_http_asks_for_the_key_too(server: LocalTriton, path: str) -> None:
    connection = http.client.HTTPConnection(server.addresses.http)
    connection.request("POST", path, "{}")
    assert connection.getresponse().status == 403
    connection.close()


def test_anybody_may_ask_how_the_server_is(server: LocalTriton) -> None:
    connection = http.client.HTTPConnection(server.addresses.http)
    connection.request("GET", "/v2/health/ready")
    assert connection.getresponse().status == 200
    connection.close()


def test_a_model_that_writes_files_is_not_loaded(triton_directory: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "tiny"
    (folder / "1").mkdir(parents=True)
    saved(WritesInAPart(), folder / "1" / "model.pt")
    (folder / "config.pbtxt").write_text(config_text("tiny", {"1": "0" * 64}))
    with pytest.raises(LocalServerError):
        LocalTriton(triton_directory, tmp_path / "models", log=tmp_path / "log").start()
    assert "Writes.forward uses aten::save" in (tmp_path / "log").read_text()
