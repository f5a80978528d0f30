"""The page at `/docs` and its files."""

import gzip
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import Route

from service.api.app import create_app
from service.api.swagger import SWAGGER
from service.settings import Settings


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return create_app(Settings(_env_file=None))


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield client


def links(page: str) -> list[str]:
    return re.findall(r'(?:src|href)="([^"]+)"', page)


async def test_the_page_links_to_nothing_on_other_hosts(client: httpx.AsyncClient) -> None:
    page = (await client.get("/docs")).text
    assert links(page)
    assert not re.search(r"(https?:)?//", page)
    assert not re.search(r"(https?:)?//\w+\.", (SWAGGER / "start.js").read_text(encoding="utf-8"))


async def test_everything_that_the_page_links_to_is_served(client: httpx.AsyncClient) -> None:
    for link in links((await client.get("/docs")).text):
        answer = await client.get(f"/{link}")
        assert (link, answer.status_code) == (link, 200)


@pytest.mark.parametrize("path", ["/docs", "/docs/files/swagger-ui.css", "/docs/files/swagger-ui-bundle.js"])
async def test_the_page_and_its_files_may_load_nothing_from_elsewhere(client: httpx.AsyncClient, path: str) -> None:
    policy = (await client.get(path)).headers["content-security-policy"].split("; ")
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert not any("http" in directive or "*" in directive for directive in policy)


@pytest.mark.parametrize(
    ("name", "kind"), [("swagger-ui-bundle.js", "text/javascript"), ("swagger-ui.css", "text/css")]
)
async def test_a_file_is_sent_compressed_to_those_who_take_it_and_whole_to_others(
    client: httpx.AsyncClient, name: str, kind: str
) -> None:
    whole = await client.get(f"/docs/files/{name}", headers={"Accept-Encoding": "br, gzip;q=0"})
    compressed = await client.get(f"/docs/files/{name}", headers={"Accept-Encoding": "br, gzip"})
    assert "content-encoding" not in whole.headers
    assert compressed.headers["content-encoding"] == "gzip"
    assert int(compressed.headers["content-length"]) == (SWAGGER / f"{name}.gz").stat().st_size
    assert whole.content == compressed.content
    for answer in (whole, compressed):
        assert answer.headers["content-type"].startswith(kind)
        assert answer.headers["vary"] == "Accept-Encoding"


async def test_a_file_that_the_browser_has_is_not_sent_again(client: httpx.AsyncClient) -> None:
    path = "/docs/files/swagger-ui.css"
    first = await client.get(path)
    again = await client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_what_is_not_there_is_not_found(client: httpx.AsyncClient) -> None:
    assert (await client.get("/docs/files/nothing.js")).status_code == 404
    assert (await client.get("/docs/files/..%2fapi%2fapp.py")).status_code == 404


async def test_no_other_viewer_is_served(app: FastAPI, client: httpx.AsyncClient) -> None:
    assert (await client.get("/redoc")).status_code == 404
    paths = {route.path for route in app.routes if isinstance(route, Route)}
    assert not {path for path in paths if "redoc" in path or "oauth2" in path}


@pytest.mark.parametrize("path", sorted(SWAGGER.glob("*.gz")), ids=lambda path: path.name)
def test_the_files_are_those_that_were_released(path: Path) -> None:
    written = re.search(rf"^\| `{path.stem}` \| `(\w+)` \|$", (SWAGGER / "README.md").read_text(encoding="utf-8"), re.M)
    assert written is not None
    assert hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest() == written[1]
