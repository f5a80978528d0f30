"""The page at `/docs`, in a real browser against the running program."""

from contextlib import closing

import pytest
from playwright.sync_api import Browser, expect

from testing.program import Program
from tests.e2e.browser import Visit

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_request_can_be_tried_and_no_other_host_is_asked(browser: Browser, program: Program, scheme: str) -> None:
    with closing(Visit(browser, program.url, color_scheme=scheme, viewport={"width": 1280, "height": 900})) as visit:
        page = visit.page
        page.goto("/docs")
        operation = page.locator(".opblock", has=page.get_by_text("The models that can be asked now"))
        operation.click()
        operation.get_by_role("button", name="Execute").click()
        expect(operation.locator(".live-responses-table .response-col_status").last).to_have_text("200")
        expect(operation.locator(".live-responses-table")).to_contain_text("camera_motion")
        visit.screenshot(f"docs-{scheme}")


def test_a_phone_shows_the_reference_without_scrolling_sideways(browser: Browser, program: Program) -> None:
    with closing(Visit(browser, program.url, viewport={"width": 390, "height": 844}, is_mobile=True)) as visit:
        visit.page.goto("/docs")
        visit.page.locator(".opblock").first.wait_for()
        assert visit.overflowing() == []
