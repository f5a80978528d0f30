"""Models that come and go, and servers that die, under load on real Triton servers."""

import asyncio
import contextlib
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from service.errors import BackendFailed, VidtrError
from service.inference.load_balancer import BalancedBackend
from service.inference.triton_backend import TritonBackend, TritonConfig
from service.inference.triton_control import ModelControl
from service.local.triton_process import LocalTriton
from tests.fixtures.tiny_models import config_text, random_clips, save_network, write_repository

pytestmark = pytest.mark.slow

POLICY = "version_policy { latest { num_versions: 2 } }"

Scenario = Callable[[LocalTriton, TritonBackend, Path], Awaitable[None]]


def add_version(folder: Path, version: str, *, broken: bool = False) -> None:
    config = folder / "config.pbtxt"
    found = re.search(r'key: "weights_sha256" value \{ string_value: "(.*)" \}', config.read_text())
    assert found is not None
    hashes = json.loads(found[1].replace('\\"', '"'))
    path = folder / version / "model.pt"
    hashes[version] = save_network(path)
    if broken:
        path.write_bytes(b"not a network")
    config.write_text(config_text(folder.name, hashes) + POLICY)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    write_repository(root, versions=("1",), extra=POLICY)
    other = root / "other"
    digest = save_network(other / "1" / "model.pt")
    (other / "config.pbtxt").write_text(config_text("other", {"1": digest}))
    return root


@pytest.fixture
def server(triton_directory: Path, repository: Path, tmp_path: Path) -> Iterator[LocalTriton]:
    with LocalTriton(triton_directory, repository, log=tmp_path / "triton.log", explicit=True) as server:
        yield server


@pytest.fixture
def on_triton(server: LocalTriton, repository: Path) -> Callable[[Scenario], Awaitable[None]]:
    """Runs a scenario on a server of its own."""

    async def run(scenario: Scenario) -> None:
        backend = TritonBackend(TritonConfig(server.addresses.grpc))
        await backend.start()
        try:
            await scenario(server, backend, repository)
        finally:
            await backend.close()

    return run


class Load:
    """Counts the answers and keeps the failures of callers who always ask for the newest version."""

    def __init__(self) -> None:
        self.answered: dict[str, int] = {}
        self.failures: list[str] = []


@asynccontextmanager
async def load(backend: TritonBackend | BalancedBackend, callers: int = 3) -> AsyncIterator[Load]:
    seen, stop = Load(), asyncio.Event()

    async def call(seed: int) -> None:
        while not stop.is_set():
            try:
                newest = max(int(spec.version) for spec in await backend.models() if spec.name == "tiny")
                await backend.infer("tiny", str(newest), random_clips(2, seed=seed))
                seen.answered[str(newest)] = seen.answered.get(str(newest), 0) + 1
            except (VidtrError, ValueError) as error:
                seen.failures.append(repr(error))

    tasks = [asyncio.create_task(call(seed)) for seed in range(callers)]
    try:
        yield seen
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - polls a real server
            await asyncio.sleep(0.02)


async def test_a_version_switch_under_load_fails_no_request(
    on_triton: Callable[[Scenario], Awaitable[None]],
) -> None:
    async def switch(server: LocalTriton, backend: TritonBackend, repository: Path) -> None:
        control = ModelControl(server.addresses.grpc, 60)
        async with load(backend) as seen:
            await until(lambda: seen.answered.get("1", 0) >= 10)
            add_version(repository / "tiny", "2")
            assert await control.reload("tiny") == ["1", "2"]
            await until(lambda: seen.answered.get("2", 0) >= 10)
            assert {(s.name, s.version) for s in await backend.models()} == {
                ("tiny", "1"),
                ("tiny", "2"),
                ("other", "1"),
            }
        assert seen.failures == []

    await on_triton(switch)


async def test_a_broken_new_version_leaves_the_old_one_serving(
    on_triton: Callable[[Scenario], Awaitable[None]],
) -> None:
    async def load_a_broken_one(server: LocalTriton, backend: TritonBackend, repository: Path) -> None:
        control = ModelControl(server.addresses.grpc, 60)
        async with load(backend) as seen:
            await until(lambda: seen.answered.get("1", 0) >= 10)
            add_version(repository / "tiny", "2", broken=True)
            with pytest.raises(BackendFailed, match="tiny"):
                await control.reload("tiny")
            before = seen.answered["1"]
            await until(lambda: seen.answered["1"] >= before + 10)
        assert seen.failures == []
        assert await control.ready_versions("tiny") == ["1"]

    await on_triton(load_a_broken_one)


async def test_models_are_unloaded_and_loaded_by_name(
    on_triton: Callable[[Scenario], Awaitable[None]],
) -> None:
    async def unload_and_load(server: LocalTriton, backend: TritonBackend, repository: Path) -> None:
        control = ModelControl(server.addresses.grpc, 60)
        await control.unload("other")
        await until_served(backend, {"tiny"})
        with pytest.raises(BackendFailed, match="is not loaded"):
            await control.reload("other")
        assert await control.load("other") == ["1"]
        await until_served(backend, {"tiny", "other"})

    await on_triton(unload_and_load)


async def until_served(backend: TritonBackend, names: set[str]) -> None:
    async with asyncio.timeout(30):
        while {spec.name for spec in await backend.models()} != names:  # noqa: ASYNC110 - polls a real server
            await asyncio.sleep(0.05)


async def test_an_unknown_model_cannot_be_loaded(server: LocalTriton) -> None:
    with pytest.raises(BackendFailed, match="nowhere"):
        await ModelControl(server.addresses.grpc, 60).load("nowhere")


async def test_a_killed_server_costs_no_request_while_another_one_lives(
    triton_directory: Path, server: LocalTriton, repository: Path, tmp_path: Path
) -> None:
    with LocalTriton(triton_directory, repository, log=tmp_path / "second.log") as second:
        addresses = [server.addresses.grpc, second.addresses.grpc]
        backend = BalancedBackend({url: TritonBackend(TritonConfig(url)) for url in addresses})
        await backend.start()
        try:
            async with load(backend) as seen:
                await until(lambda: seen.answered.get("1", 0) >= 10)
                assert second.pid is not None
                with contextlib.suppress(ProcessLookupError):
                    os.kill(second.pid, signal.SIGKILL)
                before = seen.answered["1"]
                await until(lambda: seen.answered["1"] >= before + 20)
            assert seen.failures == []
        finally:
            await backend.close()
