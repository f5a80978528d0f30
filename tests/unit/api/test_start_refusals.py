"""What an API that does not start tells its server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI
from starlette.types import Message

from service.api.start_refusals import StartRefusals
from service.errors import SandboxMissing


async def started(error: Exception) -> Message:
    """The message to the server of an app whose start ends with `error`."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        raise error
        yield

    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        sent.append(message)

    try:
        await StartRefusals(FastAPI(lifespan=lifespan))({"type": "lifespan", "state": {}}, receive, send)
    finally:
        [message] = sent
        assert message["type"] == "lifespan.startup.failed"
    return message


async def test_an_error_of_the_service_is_its_code_and_detail_in_one_line() -> None:
    message = await started(SandboxMissing("seccomp is missing."))
    assert message["message"] == "sandbox_missing: seccomp is missing."


async def test_an_error_of_the_program_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        await started(ZeroDivisionError("division by zero"))
