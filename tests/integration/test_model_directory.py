import asyncio

import pytest

from service.contracts import WorkerStatus
from service.errors import BackendUnavailable, UnknownModel
from service.queue.models import ModelDirectory
from tests.factories import spec

STATUS = WorkerStatus(worker="one")


async def test_an_announced_model_is_listed_as_it_is(directory: ModelDirectory) -> None:
    await directory.announce([spec()], STATUS, 10)
    assert await directory.list() == [spec()]


async def test_the_newest_version_is_the_default_one(directory: ModelDirectory) -> None:
    await directory.announce([spec(version=v) for v in ("9", "10", "2")], STATUS, 10)
    assert (await directory.resolve("tiny", None)).version == "10"
    assert (await directory.resolve("tiny", "2")).version == "2"


async def test_a_model_vanishes_with_its_last_worker(directory: ModelDirectory) -> None:
    await directory.announce([spec()], STATUS, 0.05)
    await asyncio.sleep(0.1)
    assert await directory.list() == []


async def test_without_any_worker_the_backend_is_unavailable(directory: ModelDirectory) -> None:
    with pytest.raises(BackendUnavailable) as caught:
        await directory.resolve("tiny", None)
    assert caught.value.retry_after_s


async def test_an_unknown_model_is_named_beside_those_that_are_served(directory: ModelDirectory) -> None:
    await directory.announce([spec()], STATUS, 10)
    with pytest.raises(UnknownModel, match=r"'huge' is not served; served now: tiny version 1"):
        await directory.resolve("huge", None)
    with pytest.raises(UnknownModel, match=r"'tiny' in version 7"):
        await directory.resolve("tiny", "7")


async def test_a_worker_says_how_it_does_until_it_withdraws(directory: ModelDirectory) -> None:
    status = WorkerStatus(worker="one", breaker="open", retry_in_s=1.5, clips_per_s={"tiny": 12.0})
    await directory.announce([spec()], status, 10)
    assert await directory.workers() == [status]
    await directory.withdraw("one")
    assert await directory.workers() == []


async def test_a_worker_that_falls_silent_is_forgotten(directory: ModelDirectory) -> None:
    await directory.announce([spec()], STATUS, 0.05)
    await asyncio.sleep(0.06)
    assert await directory.workers() == []
