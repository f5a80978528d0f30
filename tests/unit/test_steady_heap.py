"""What a process has loaded, and its garbage collections."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import uvicorn
from fastapi import FastAPI

from service.api.server import Server
from service.steady_heap import keep_apart


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


class Thing:
    """Something that a collection sees, and that can refer to itself."""

    itself: Thing


def collected_things() -> int:
    return sum(type(thing) is Thing for thing in gc.get_objects())


def test_what_there_was_is_left_out_and_what_comes_is_collected() -> None:
    old = Thing()
    keep_apart()
    assert collected_things() == 0
    new = Thing()
    new.itself = new
    assert collected_things() == 1
    del new
    gc.collect()
    assert collected_things() == 0
    assert isinstance(old, Thing)


async def test_an_api_that_listens_leaves_out_what_it_has_loaded() -> None:
    app = FastAPI()
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="on")
    config.load()
    server = Server(config, app)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        assert gc.get_freeze_count() > 0
    finally:
        await server.shutdown()
