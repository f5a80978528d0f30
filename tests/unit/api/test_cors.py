"""Pages of other origins may send and read every header that the documentation names."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from service.api.app import create_app
from service.api.cors import ANSWER_HEADERS, REQUEST_HEADERS
from service.settings import Settings

API = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")
# A header of one hop: nothing that a page could read.
NOT_FOR_PAGES = {"Connection"}


def documented(direction: str) -> set[str]:
    chapter = API.split("\n## Headers\n")[1].split("\n## ")[0]
    sections = re.findall(r"^### (\S+)\n\n([^.\n]*)", chapter, re.M)
    return {name for name, first in sections if direction in first} - NOT_FOR_PAGES


def test_every_documented_header_may_be_sent() -> None:
    assert documented("Request") <= set(REQUEST_HEADERS)


def test_every_documented_header_may_be_read() -> None:
    assert documented("nswer") <= set(ANSWER_HEADERS)
    assert documented("nswer")


@pytest.mark.parametrize("header", REQUEST_HEADERS)
async def test_a_page_that_asks_for_a_header_is_let(header: str) -> None:
    app = create_app(Settings(_env_file=None, cors_origins=("https://app.example",)))
    preflight = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": header.lower(),
    }
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        answer = await client.options("/v1/classify", headers=preflight)
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, "https://app.example")
