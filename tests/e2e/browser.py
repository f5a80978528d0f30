"""A headless Chromium, and pages in it that report whatever a visitor's console would show."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Playwright, Request, sync_playwright

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# A camera that shows a made-up picture, and a person who agrees to be filmed.
FAKE_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
OVERFLOWING = """() => {
  const root = document.documentElement
  if (root.scrollWidth <= root.clientWidth) return []
  const out = [...document.querySelectorAll('*')]
    .map((element) => [element, Math.round(element.getBoundingClientRect().right - root.clientWidth)])
    .filter(([, pixels]) => pixels > 0)
    .map(([element, pixels]) => `${pixels}: ${element.outerHTML.slice(0, 120)}`)
  return [`${root.scrollWidth - root.clientWidth}: the page`, ...out]
}"""
MISSING = "no Chromium on this machine, so the page was not tested: `make browser` installs one"


DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "has_touch": True,
    "is_mobile": True,
    "device_scale_factor": 2,
}


@contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's Chromium, or the one that Playwright has installed.

    Where there is none the tests are skipped, and fail in CI: there it has to be installed.
    """
    with sync_playwright() as playwright:
        path = executable(playwright)
        if path is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(MISSING)
        browser = playwright.chromium.launch(executable_path=path, args=list(FAKE_CAMERA))
        yield browser
        browser.close()


def executable(playwright: Playwright) -> str | None:
    own = playwright.chromium.executable_path
    return next(filter(None, map(shutil.which, NAMES)), own if Path(own).is_file() else None)


class Visit:
    """A page in a context of its own. `complaints` is what went wrong in it unseen."""

    def __init__(self, browser: Browser, url: str, **context: Any) -> None:
        self.url = url
        self.complaints: list[str] = []
        self.context = browser.new_context(base_url=url, permissions=["clipboard-write", "camera"], **context)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.on("console", lambda message: self._console(message.type, message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        self.page.on("request", self._request)
        self.page.goto("/")

    def _console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(f"{kind}: {text}")

    def _request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("blob", "data") and not request.url.startswith(f"{self.url}/"):
            self.complaints.append(f"request to another host: {request.url}")

    def expect_status(self, status: int) -> None:
        """Take back Chromium's own complaint about an answer with this status; there must have been one."""
        text = f"error: Failed to load resource: the server responded with a status of {status}"
        found = [complaint for complaint in self.complaints if complaint.startswith(text)]
        assert found
        self.complaints = [complaint for complaint in self.complaints if complaint not in found]

    def classify(self, path: Path) -> Page:
        """Choose a file and wait for its answer."""
        self.page.set_input_files("#file", path)
        self.answered()
        return self.page

    def answered(self) -> None:
        """Wait for an answer; a problem on the page is an error here."""
        self.page.locator("#result:not([hidden]), #problem:not([hidden])").wait_for()
        problem = self.page.locator("#problem:not([hidden])")
        assert not problem.all_inner_texts()

    def close(self) -> None:
        """Leave, and fail where anything went wrong unseen."""
        self.page.unroute_all(behavior="ignoreErrors")
        self.context.close()
        assert self.complaints == []

    def accessibility_violations(self) -> list[str]:
        """What axe-core finds, one line for each rule and element."""
        found = Axe().run(self.page).response["violations"]
        return [f"{rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]]

    def screenshot(self, name: str) -> None:
        """Keep a picture of the whole page for a person to look at."""
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)

    def overflowing(self) -> list[str]:
        """What makes the page wider than the window: the elements that stick out, with the pixels."""
        return list(self.page.evaluate(OVERFLOWING))


if __name__ == "__main__":
    with sync_playwright() as driver:
        sys.exit(executable(driver) is None)
