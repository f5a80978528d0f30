"""The page asks where the model looked, and lays it over the pictures of the frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from service.contracts import JobResult, Region, SpatialView
from testing.answers import answer, window
from testing.factories import spec
from testing.program import Program
from tests.e2e.browser import DESKTOP, PHONE, Visit
from tests.fixtures.made_answers import MadeAnswers, made_answers

pytestmark = pytest.mark.slow

FRAMES = 8
DROPPED = (0, 5)
FAINT = ((0.01, 0.02), (0.0, 0.01))
STRONG = ((0.01, 0.02), (0.0, 0.08))
MIDDLE = Region(left=0.25, top=0.0, width=0.5, height=1.0)
VIEW = SpatialView(
    region=MIDDLE, frames=tuple(None if t in DROPPED else STRONG if t == 3 else FAINT for t in range(FRAMES))
)
PLAIN = window(0.0, 2.0, "pan_right")


def looked(*views: SpatialView) -> JobResult:
    return answer(
        (), windows=(PLAIN.model_copy(update={"spatial_attention": views or None}),), shots=(), duration_s=2.0
    )


@pytest.fixture(scope="module")
def server() -> Iterator[MadeAnswers]:
    with made_answers() as server:
        server.model = spec(name="camera_motion", frames=FRAMES, spatial_grid=(2, 2))
        yield server


def maps(page: Page) -> Locator:
    return page.locator("#strip .map")


def pixels(canvas: Locator, *places: tuple[float, float]) -> list[list[int]]:
    """Red, green, blue and opacity of the canvas at shares of its width and height, read in one go."""
    found: list[list[int]] = canvas.evaluate(
        """(canvas, places) => {
          const {data, width, height} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          const at = ([across, down]) => 4 * (Math.floor(down * height) * width + Math.floor(across * width));
          return places.map((place) => Array.from(data.slice(at(place), at(place) + 4)));
        }""",
        [list(place) for place in places],
    )
    return found


@pytest.mark.parametrize(
    ("name", "context"),
    [("light", DESKTOP), ("dark", {**DESKTOP, "color_scheme": "dark"}), ("phone", PHONE)],
)
def test_the_button_lays_maps_over_the_frames_that_have_one(
    browser: Browser, server: MadeAnswers, film: Path, name: str, context: dict[str, Any]
) -> None:
    server.answer = looked(VIEW)
    with closing(Visit(browser, server.url, **context)) as visit:
        page = visit.classify(film)
        assert server.asked[0]["attention"] == "spatial"
        expect(maps(page)).to_have_count(0)
        button = page.get_by_role("button", name="Where did it look?")
        expect(button).to_have_attribute("aria-pressed", "false")
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true")
        expect(maps(page)).to_have_count(FRAMES - len(DROPPED))
        for number, frame in enumerate(page.locator("#strip .frame").all()):
            assert frame.locator(".map").count() == (number not in DROPPED)
        pictures, overlays = (
            page.locator(f"#strip .frame:nth-child(4) canvas{kind}").bounding_box() for kind in (":not(.map)", ".map")
        )
        assert pictures == overlays
        assert visit.accessibility_violations() == []
        assert visit.overflowing() == []
        visit.screenshot(f"where-{name}")
        button.click()
        expect(maps(page)).to_have_count(0)


def test_a_cell_lies_over_its_part_of_the_picture_and_the_rest_is_dark(
    browser: Browser, server: MadeAnswers, film: Path
) -> None:
    server.answer = looked(VIEW)
    with closing(Visit(browser, server.url, **DESKTOP)) as visit:
        page = visit.classify(film)
        page.get_by_role("button", name="Where did it look?").click()
        strong, faint = (page.locator(f"#strip .frame:nth-child({number}) .map") for number in (4, 2))
        # Of the region, which is the middle half of the picture, the cell below on the right.
        most, quarter, none, *outside = pixels(strong, (0.6, 0.75), (0.6, 0.25), (0.4, 0.75), (0.2, 0.5), (0.8, 0.5))
        assert most == pytest.approx([255, 105, 0, 204], abs=2)
        assert quarter[3] == pytest.approx(204 / 4, abs=2)
        assert none[3] == 0
        assert outside == [[0, 0, 0, 128]] * 2
        # Frames are drawn alike: what is faint in one is faint in all.
        [[*_, opacity]] = pixels(faint, (0.6, 0.75))
        assert opacity == pytest.approx(204 / 8, abs=2)


def test_a_sentence_says_what_the_maps_come_to_and_that_they_are_no_evidence(
    browser: Browser, server: MadeAnswers, film: Path
) -> None:
    server.answer = looked(VIEW)
    with closing(Visit(browser, server.url, **DESKTOP)) as visit:
        page = visit.classify(film)
        expect(page.locator("#where")).to_be_hidden()
        page.get_by_role("button", name="Where did it look?").click()
        said = page.locator("#where")
        expect(said).to_contain_text("31.0 % of what it read lies in the pictures, most at 0.75 s, at the bottom")
        expect(said).to_contain_text("frames without a map were dropped before")
        expect(said).to_contain_text("is no evidence of what made the label")


def test_of_three_crops_the_middle_one_is_shown(browser: Browser, server: MadeAnswers, film: Path) -> None:
    sides = [VIEW.model_copy(update={"region": MIDDLE.model_copy(update={"left": left})}) for left in (0.0, 0.5)]
    server.answer = looked(*sides, VIEW)
    with closing(Visit(browser, server.url, **DESKTOP)) as visit:
        page = visit.classify(film)
        page.get_by_role("button", name="Where did it look?").click()
        expect(page.locator("#where")).to_contain_text("lies in the pictures of the crop in the middle")
        assert pixels(page.locator("#strip .frame:nth-child(4) .map"), (0.2, 0.5)) == [[0, 0, 0, 128]]


def test_of_a_model_that_does_not_say_it_nothing_is_asked_or_offered(browser: Browser, film: Path) -> None:
    with made_answers() as plain:
        plain.answer = looked()
        with closing(Visit(browser, plain.url, **DESKTOP)) as visit:
            page = visit.classify(film)
            assert plain.asked[0]["attention"] == "layers"
            expect(page.locator("#ask-where")).to_be_hidden()


def test_where_the_answer_would_be_too_large_it_goes_without(browser: Browser, server: MadeAnswers, film: Path) -> None:
    server.answer = looked()
    problem = {
        "status": 422,
        "code": "spatial_attention_too_large",
        "detail": "Too many numbers.",
        "title": "Too large",
    }

    def refuse(route: Route) -> None:
        if "attention=spatial" in route.request.url:
            route.fulfill(status=422, json=problem, content_type="application/problem+json")
        else:
            route.continue_()

    with closing(Visit(browser, server.url, **DESKTOP)) as visit:
        visit.page.route("**/v1/classify*", refuse)
        page = visit.classify(film)
        visit.expect_status(422)
        assert server.asked[0]["attention"] == "layers"
        expect(page.locator("#ask-where")).to_be_hidden()


def test_the_bundled_model_s_maps_stand_over_the_frames_of_a_real_answer(
    browser: Browser, program: Program, film: Path
) -> None:
    with closing(Visit(browser, program.url, **DESKTOP)) as visit:
        page = visit.classify(film)
        expect(page.locator("#strip canvas.drawn")).to_have_count(FRAMES)
        page.get_by_role("button", name="Where did it look?").click()
        expect(maps(page)).to_have_count(4)
        visit.screenshot("where-bundled")
