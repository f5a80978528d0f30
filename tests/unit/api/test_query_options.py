"""The options of a query are read once, and as FastAPI would read them."""

from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError

from service.api.query_options import classify_options, each_once
from service.api.schemas import ClassifyOptions
from service.errors import InvalidOption


def asked(query: str) -> Request:
    return Request({"type": "http", "query_string": query.encode(), "headers": []})


async def by_fastapi(query: str) -> Any:
    """The options as FastAPI reads them, or its errors."""
    app = FastAPI()
    seen: list[Any] = []

    @app.get("/")
    async def options(given: Annotated[ClassifyOptions, Query()]) -> None:
        seen.append(given)

    @app.exception_handler(RequestValidationError)
    async def refused(request: Request, error: RequestValidationError) -> None:
        seen.append(list(error.errors()))
        raise error

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        await client.get(f"/?{query}")
    return seen[0]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "windows=auto",
        "windows=3&top_k=2&attention=layers&start=0.5&end=4&embedding=true",
        "model=camera_motion&version=1&crops=3&split=shots",
        "webhook=https%3A%2F%2Fexample.com%2Fhook",
        "evidence=causal&evidence_label=pan+left&evidence_orders=16",
        "top_k=0",
        "top_k=&min_score=2",
        "top_k=1e3",
        "windows=none&crops=2",
        "unknown=1&other=2",
        "start=nan",
        "embedding=perhaps",
        "min_score",
    ],
)
async def test_a_query_means_what_it_means_to_fastapi(query: str) -> None:
    expected = await by_fastapi(query)
    for _ in range(2):
        if isinstance(expected, ClassifyOptions):
            assert classify_options(asked(query)) == expected
        else:
            with pytest.raises(RequestValidationError) as raised:
                classify_options(asked(query))
            assert [*raised.value.errors()] == expected


def test_the_same_query_is_read_once() -> None:
    assert classify_options(asked("top_k=17")) is classify_options(asked("top_k=17"))


def test_the_url_of_a_webhook_is_not_remembered() -> None:
    query = "webhook=https%3A%2F%2Fexample.com%2Fsecret"
    assert classify_options(asked(query)) is not classify_options(asked(query))


async def test_an_option_that_is_given_twice_is_refused_each_time() -> None:
    for _ in range(2):
        with pytest.raises(InvalidOption, match="Option 'top_k' is given 2 times"):
            await each_once(asked("top_k=1&windows=2&top_k=3"))
    await each_once(asked("top_k=1&windows=2"))
