"""The page shows what happens in a video, and when: sentences, shots, events, and files of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from service.contracts import JobResult
from testing.answers import answer, event, shot, window
from testing.videos import write_video
from tests.e2e.browser import DESKTOP, PHONE, Visit
from tests.fixtures.made_answers import MadeAnswers

pytestmark = pytest.mark.slow

Show = Callable[[Visit, JobResult], Page]

TEN_S = answer(
    (event("cut", 4.2), event("pan_right", 3.0, 4.2), event("cut", 8.04)),
    windows=tuple(window(start, start + 2.0, "static") for start in (0.0, 2.0, 4.0, 6.0, 8.0)),
    shots=(shot(0.0, 4.2, "static", "start"), shot(4.2, 8.04, "pan_right"), shot(8.04, 10.0, "static")),
    duration_s=10.0,
)


def film(duration_s: float, every_s: float) -> JobResult:
    """A shot every so often, the moves in turn, and a still camera for the rest."""
    labels = ("pan_right", "static", "zoom_in", "static", "tilt_up", "static")
    starts = np.arange(0, duration_s, every_s)
    events, shots = [], []
    for number, start in enumerate(map(float, starts)):
        end = min(duration_s, start + every_s)
        label = labels[number % len(labels)]
        shots.append(shot(start, end, label, "cut" if number else "start"))
        events.append(event(label, start + 0.1 * every_s, end - 0.1 * every_s))
        events += [event("cut", start)] if number else []
    span = duration_s / 120
    windows = tuple(window(n * span, (n + 1) * span, labels[n % len(labels)]) for n in range(120))
    return answer(tuple(events), windows=windows, shots=tuple(shots), duration_s=duration_s)


THREE_MIN = film(180.0, 6.0)
TWO_HOURS = film(7200.0, 5.0)


@pytest.fixture
def visit(browser: Browser, server: MadeAnswers) -> Iterator[Callable[..., Visit]]:
    with ExitStack() as stack:

        def opened(**context: Any) -> Visit:
            return stack.enter_context(closing(Visit(browser, server.url, **{**DESKTOP, **context})))

        yield opened
        server.released.set()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds, for the player; what is said of it is made up."""
    return write_video(tmp_path_factory.mktemp("videos") / "film.webm", 250, fps=25, size=(160, 90), codec="libvpx")


@pytest.fixture
def show(server: MadeAnswers, video: Path) -> Show:
    """Has a page show an answer."""

    def shown(opened: Visit, result: JobResult) -> Page:
        server.answer = result
        return opened.classify(video)

    return shown


def test_the_headline_says_what_happens_for_eyes_and_for_ears(visit: Callable[..., Visit], show: Show) -> None:
    opened = visit()
    page = show(opened, TEN_S)
    sentence = page.locator("#sentence")
    expect(sentence.locator("[aria-hidden]")).to_have_text("Mostly nothing clear. Pans right 0:03–0:04.2. 2 cuts.")
    spoken = "Mostly nothing clear. Pans right from 3 seconds to 4.2 seconds. 2 cuts."
    expect(sentence.locator(".hidden")).to_have_text(spoken)
    expect(page.locator("#said")).to_have_text(f"Classified: {spoken}")


def test_shots_and_events_are_named_bands_that_play_when_they_are_chosen(
    visit: Callable[..., Visit], show: Show
) -> None:
    opened = visit()
    page = show(opened, TEN_S)
    assert page.locator("#timeline .bands").evaluate_all("all => all.map(row => row.ariaLabel)") == [
        "Shots",
        "pan right",
        "cut",
    ]
    pan = page.get_by_role("button", name="pan right from 3 seconds to 4.2 seconds")
    expect(pan).to_have_text("pan right")
    box, row = pan.bounding_box(), page.locator("#timeline .bands").first.bounding_box()
    assert box is not None
    assert row is not None
    assert (box["x"] - row["x"]) / row["width"] == pytest.approx(0.3, abs=0.01)
    assert box["width"] / row["width"] == pytest.approx(0.12, abs=0.01)
    pan.click()
    page.wait_for_function("() => { const v = document.getElementById('video'); return v.paused && v.currentTime > 4 }")
    assert page.locator("#video").evaluate("video => video.currentTime") == pytest.approx(4.2, abs=0.5)
    assert opened.accessibility_violations() == []
    opened.screenshot("timeline-10s-light")


def test_bands_are_reached_and_played_by_the_keyboard(visit: Callable[..., Visit], show: Show) -> None:
    page = show(visit(), TEN_S)
    page.locator("#timeline .bands").first.locator(".band").first.focus()
    page.keyboard.press("End")
    expect(page.get_by_role("button", name="Shot 3 of 3")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.getElementById('video').currentTime >= 8")


@pytest.mark.parametrize(("name", "result"), [("3min", THREE_MIN), ("2h", TWO_HOURS)])
def test_a_long_timeline_is_zoomed_and_scrolled(
    visit: Callable[..., Visit], show: Show, name: str, result: JobResult
) -> None:
    opened = visit(color_scheme="dark" if name == "2h" else "light")
    page = show(opened, result)
    scroll = page.locator(".timeline-scroll")
    assert page.locator("#timeline .scale span").count() > 3
    opened.screenshot(f"timeline-{name}")
    named = (
        page.locator("#timeline .bands")
        .first.locator(".band")
        .evaluate_all("all => all.filter(b => b.textContent).length")
    )
    zoom = page.get_by_role("button", name="Zoom the timeline in")
    for _ in range(3 if name == "3min" else 7):
        zoom.click()
    assert scroll.evaluate("box => box.scrollWidth > 5 * box.clientWidth")
    more = (
        page.locator("#timeline .bands")
        .first.locator(".band")
        .evaluate_all("all => all.filter(b => b.textContent).length")
    )
    assert more > named
    # The middle stays where it was.
    middle = scroll.evaluate("box => (box.scrollLeft + box.clientWidth / 2) / box.scrollWidth")
    assert middle == pytest.approx(0.5, abs=0.01)
    assert opened.accessibility_violations() == []
    opened.screenshot(f"timeline-{name}-zoomed")
    page.get_by_role("button", name="Show the whole video").click()
    expect(page.get_by_role("button", name="Zoom the timeline out")).to_be_disabled()
    assert scroll.evaluate("box => box.scrollWidth <= box.clientWidth")


def test_what_happens_often_is_said_as_shares(visit: Callable[..., Visit], show: Show) -> None:
    page = show(visit(), TWO_HOURS)
    expect(page.locator("#sentence [aria-hidden]")).to_have_text(
        "Still 40 % of the time, pans right 13 %, zooms in 13 %, tilts up 13 %. 1439 cuts."
    )
    expect(page.locator("#facts")).to_contain_text("2:00:00, 640 × 360")
    expect(page.locator("#window-title")).to_have_text("Window 1 of 120: 0.00 s to 1:00")


def test_the_sentence_begins_with_what_holds_longest_and_ends_with_what_qualifies_it(
    visit: Callable[..., Visit], show: Show
) -> None:
    moves = tuple(event("pan_right", start, start + 8.0) for start in range(0, 60, 12))
    shaky = event("handheld", 0.0, 60.0)
    made = answer((*moves, event("tilt_up", 9.0, 11.0), shaky), qualifiers=("handheld",), duration_s=60.0)
    expect(show(visit(), made).locator("#sentence [aria-hidden]")).to_have_text(
        "Mostly pans right. Tilts up 0:09–0:11. Handheld 0:00–1:00."
    )
    often = answer((*moves[:3], event("tilt_up", 9.0, 11.0), shaky), qualifiers=("handheld",), duration_s=60.0)
    expect(show(visit(), often).locator("#sentence [aria-hidden]")).to_have_text(
        "Mostly nothing clear. Pans right 40 % of the time. Tilts up 0:09–0:11. Handheld 0:00–1:00."
    )


def test_a_video_is_named_by_its_url_and_looked_at_in_overlapping_windows_of_its_shots(
    visit: Callable[..., Visit], server: MadeAnswers
) -> None:
    server.answer = TEN_S
    page = visit().page
    page.locator("#options summary").click()
    page.get_by_role("combobox", name="Windows").fill("all")
    page.get_by_role("spinbutton", name="Step of windows").fill("0.5")
    page.get_by_role("combobox", name="At cuts").select_option("shots")
    page.get_by_role("textbox", name="Or name a video by its URL").fill("https://films.example/long/film.mp4?take=2")
    page.get_by_role("button", name="Classify the URL").click()
    expect(page.locator("#title")).to_have_text("film.mp4")
    options, body = server.asked
    assert (options["windows"], options["stride"], options["split"]) == ("all", "0.5", "shots")
    assert json.loads(body) == {"source": {"url": "https://films.example/long/film.mp4?take=2"}}
    for language in ("curl", "Python"):
        page.get_by_role("tab", name=language).click()
        expect(page.locator("#snippet")).to_contain_text('{"url":')


def test_two_hours_fit_a_phone(visit: Callable[..., Visit], show: Show) -> None:
    opened = visit(**PHONE)
    page = show(opened, TWO_HOURS)
    assert opened.overflowing() == []
    page.locator("#exports summary").click()
    assert opened.overflowing() == [], "with the menu open"
    opened.screenshot("timeline-2h-phone")


def test_windows_are_shown_while_the_rest_is_scored(
    visit: Callable[..., Visit], server: MadeAnswers, video: Path
) -> None:
    opened = visit()
    server.answer = TEN_S
    server.released.clear()
    opened.page.set_input_files("#file", video)
    expect(opened.page.locator("#partial .segment")).to_have_count(2)
    expect(opened.page.locator("#partial")).to_have_attribute(
        "aria-label", "2 windows scored so far; the latest: static 90.0 %"
    )
    assert opened.accessibility_violations() == []
    opened.screenshot("partial-light")
    server.released.set()
    opened.answered()
    expect(opened.page.locator("#progress")).to_be_hidden()
