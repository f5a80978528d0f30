"""What a Triton says that does not let clients use shared memory, which no server that runs in the tests does."""

import logging
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from service.inference import shared_memory
from service.inference.shared_memory import SharedInputs

CLIPS = np.zeros((1, 2, 4, 4, 3), np.uint8)


class Server:
    """The few calls of a client, towards a server that refuses to register memory."""

    def __init__(self, status: str, *, ready: bool) -> None:
        self.status, self.ready = status, ready
        self.unregistered: list[str] = []

    async def get_system_shared_memory_status(self, **options: Any) -> Any:
        raise InferenceServerException("refused", status=self.status)

    async def register_system_shared_memory(self, name: str, key: str, size: int, **options: Any) -> None:
        raise InferenceServerException("system shared memory is disabled", status=self.status)

    async def unregister_system_shared_memory(self, name: str, **options: Any) -> None:
        self.unregistered.append(name)

    async def is_server_ready(self, **options: Any) -> bool:
        return self.ready


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shared_memory, "SHM", tmp_path)
    return tmp_path


async def take(inputs: SharedInputs, server: Server) -> Any:
    return await inputs.take(cast(InferenceServerClient, server), CLIPS, CLIPS.nbytes, 1.0)


async def test_a_ready_server_that_calls_itself_unavailable_refuses(
    caplog: pytest.LogCaptureFixture, directory: Path
) -> None:
    inputs, server = SharedInputs(), Server("StatusCode.UNAVAILABLE", ready=True)
    with caplog.at_level(logging.WARNING):
        assert [await take(inputs, server) for _ in range(3)] == [None, None, None]
    assert [record.getMessage() for record in caplog.records] == [
        "shared memory cannot be used, clips are sent over the connection: "
        "Triton says: system shared memory is disabled"
    ]
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("status", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"])
async def test_a_server_that_is_away_is_asked_again_and_may_have_registered(status: str, directory: Path) -> None:
    inputs, server = SharedInputs(), Server(f"StatusCode.{status}", ready=False)
    for _ in range(2):
        with pytest.raises(InferenceServerException):
            await take(inputs, server)
    assert len(server.unregistered) == 1
    assert list(directory.iterdir()) == []
