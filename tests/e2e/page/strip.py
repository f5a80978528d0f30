"""Reads the strip of frames in the page."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page

FRAMES = 8


def frames(page: Page) -> Locator:
    return page.locator("#strip .frame")


def share(frame: Locator) -> float:
    """Attention of a frame in percent, as its label says it."""
    found = re.search(r"attention ([\d.]+) %", frame.get_attribute("aria-label") or "")
    assert found is not None
    return float(found[1])


def time_of(frame: Locator) -> float:
    found = re.search(r"at ([\d.]+) s", frame.get_attribute("aria-label") or "")
    assert found is not None
    return float(found[1])


def playing_time(page: Page) -> float:
    return float(page.locator("#video").evaluate("video => video.currentTime"))


def middle(locator: Locator) -> float:
    box = locator.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2
