import httpx
import pytest

from service.api.app import create_app
from service.api.problems import STATUS, TITLES
from service.errors import error_types
from service.settings import Settings


def test_every_error_has_exactly_one_status() -> None:
    assert set(STATUS) == set(error_types())


def test_errors_that_pass_by_themselves_are_503() -> None:
    passing = {
        "too_many_connections",
        "queue_full",
        "queue_unavailable",
        "backend_unavailable",
        "evidence_unavailable",
        "disk_full",
        "draining",
    }
    assert {code for code, status in STATUS.items() if status == 503} == passing


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/v1/jobs/" + "0" * 32, "DELETE, GET, HEAD"), ("/v1/classify", "POST"), ("/v1/jobs", "GET, HEAD")],
)
async def test_a_method_that_is_not_served_is_told_all_that_are(path: str, allowed: str) -> None:
    app = create_app(Settings(_env_file=None))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        response = await client.put(path)
    assert (response.status_code, response.headers["Allow"]) == (405, allowed)


@pytest.mark.parametrize("path", ["/v1/models/", "/v1/jobs/", "/docs/", "/static", "/health/live/"])
async def test_a_path_with_another_slash_at_its_end_leads_nowhere(path: str) -> None:
    app = create_app(Settings(_env_file=None))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        response = await client.get(path)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert "Location" not in response.headers
    assert ("Leave out the slash" in response.json()["detail"]) is path.endswith("/")


@pytest.mark.parametrize(("anonymous", "optional"), [("allow", True), ("loopback", True), ("deny", False)])
def test_the_description_says_whether_a_key_is_needed(anonymous: str, optional: bool) -> None:
    paths = create_app(Settings(_env_file=None, anonymous=anonymous)).openapi()["paths"]
    assert ({} in paths["/v1/classify"]["post"]["security"]) is optional
    assert "security" not in paths["/health/live"]["get"]


def test_every_status_has_a_title_of_its_own() -> None:
    assert TITLES.keys() == set(STATUS.values())
    assert len(set(TITLES.values())) == len(TITLES)
