"""What every answer has, also that of a failure which nobody foresaw."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI

from service.api.app import create_app
from service.settings import Settings


@pytest.fixture
def app() -> FastAPI:
    app = create_app(Settings(_env_file=None, cors_origins=("https://app.example",)))

    @app.get("/fails")
    async def fails() -> None:
        raise OverflowError("cannot convert float infinity to integer")

    return app


async def test_an_unforeseen_failure_is_answered_with_its_id_and_for_its_origin(app: FastAPI) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost") as client:
        answer = await client.get("/fails", headers={"Origin": "https://app.example", "X-Request-Id": "mine"})
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal_error"
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"] == "mine"
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
