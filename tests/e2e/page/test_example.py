"""The video that the service makes itself, in a real browser against the running program."""

from __future__ import annotations

import csv
import json
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import expect

from testing.program import Program
from tests.e2e.browser import DESKTOP, Visit, chromium

pytestmark = pytest.mark.slow


def test_the_example_is_one_click_away_and_its_events_are_saved_as_a_file(program: Program) -> None:
    with chromium() as browser, closing(Visit(browser, program.url, **DESKTOP)) as opened:
        page = opened.page
        page.get_by_role("button", name="Try an example video").click()
        opened.answered()
        expect(page.locator("#title")).to_have_text("example.webm")
        expect(page.locator("#strip canvas.drawn").first).to_be_visible()
        opened.screenshot("example-light")
        page.locator("#exports summary").focus()
        page.keyboard.press("Enter")
        with page.expect_download() as saved:
            page.get_by_role("button", name="Spreadsheet (CSV)").click()
        assert saved.value.suggested_filename == "example.csv"
        rows = list(csv.DictReader(Path(saved.value.path()).read_text().splitlines()))
        shown = json.loads(page.locator("#raw").text_content() or "")["events"]
        assert [row["label"] for row in rows] == [each["label"] for each in shown]
        assert {"pan_right", "cut"} <= {row["label"] for row in rows}
