import asyncio

import numpy as np
import pytest

from service.contracts import ModelSpec
from service.errors import BackendFailed, BackendUnavailable
from service.inference.backend import Clips, Scores
from service.inference.load_balancer import BalancedBackend
from testing.factories import spec

CLIPS = np.zeros((1, 2, 2, 2, 3), np.uint8)
SCORES = Scores(*(np.zeros((1, 1), np.float32),) * 6)


class Engine:
    """An endpoint that answers, or raises what it is told to."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.calls = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.specs = [spec(name="m", version="1")]

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def models(self) -> list[ModelSpec]:
        if self.error:
            raise self.error
        return self.specs

    async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
        self.calls += 1
        await self.gate.wait()
        if self.error:
            raise self.error
        return SCORES


@pytest.fixture
async def engines() -> list[Engine]:
    return [Engine(), Engine()]


@pytest.fixture
async def backend(engines: list[Engine]) -> BalancedBackend:
    backend = BalancedBackend({str(i): engine for i, engine in enumerate(engines)})
    await backend.models()
    return backend


async def test_a_busy_endpoint_is_passed_over(backend: BalancedBackend, engines: list[Engine]) -> None:
    engines[0].gate.clear()
    held = asyncio.create_task(backend.infer("m", "1", CLIPS))
    await asyncio.sleep(0)
    await backend.infer("m", "1", CLIPS)
    assert [engine.calls for engine in engines] == [1, 1]
    engines[0].gate.set()
    await held


async def test_the_call_that_meets_a_sick_endpoint_is_answered_by_the_other(
    backend: BalancedBackend, engines: list[Engine]
) -> None:
    engines[0].error = BackendUnavailable("away")
    assert await backend.infer("m", "1", CLIPS) is SCORES
    assert [engine.calls for engine in engines] == [1, 1]


async def test_an_unhealthy_endpoint_gets_no_calls_during_its_backoff(
    backend: BalancedBackend, engines: list[Engine]
) -> None:
    engines[0].error = BackendUnavailable("away")
    for _ in range(5):
        await backend.infer("m", "1", CLIPS)
    assert engines[0].calls == 1


async def test_an_endpoint_that_lists_its_models_again_is_back(backend: BalancedBackend, engines: list[Engine]) -> None:
    engines[0].error = BackendUnavailable("away")
    await backend.infer("m", "1", CLIPS)
    engines[0].error = None
    await backend.models()
    await backend.infer("m", "1", CLIPS)
    assert engines[0].calls == 2


async def test_a_call_fails_when_every_endpoint_is_away(backend: BalancedBackend, engines: list[Engine]) -> None:
    for engine in engines:
        engine.error = BackendUnavailable("away")
    with pytest.raises(BackendUnavailable):
        await backend.infer("m", "1", CLIPS)
    with pytest.raises(BackendUnavailable):
        await backend.models()


async def test_what_fails_for_good_is_not_tried_elsewhere(backend: BalancedBackend, engines: list[Engine]) -> None:
    engines[0].error = BackendFailed("bad clip")
    with pytest.raises(BackendFailed):
        await backend.infer("m", "1", CLIPS)
    assert engines[1].calls == 0


async def test_a_version_is_asked_where_it_is_served(backend: BalancedBackend, engines: list[Engine]) -> None:
    engines[1].specs = [*engines[1].specs, spec(name="m", version="2")]
    assert [s.version for s in await backend.models()] == ["1", "2"]
    await backend.infer("m", "2", CLIPS)
    assert [engine.calls for engine in engines] == [0, 1]
