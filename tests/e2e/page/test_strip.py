"""The frames of one window under the video: attention, pictures and the playhead."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.browser import Visit
from tests.e2e.page.drawn import CUT_S
from tests.e2e.page.strip import FRAMES, frames, middle, playing_time, share, time_of

pytestmark = pytest.mark.slow


def test_a_clip_with_a_cut_is_labelled_and_the_most_attended_frame_is_beside_the_cut(cut_visit: Visit) -> None:
    page = cut_visit.page
    expect(page.locator("#title")).to_have_text("a cut.webm")
    expect(page.locator("#labels li .name").first).to_have_text("cut")
    expect(frames(page)).to_have_count(FRAMES)
    shares = [share(frame) for frame in frames(page).all()]
    most = frames(page).nth(int(np.argmax(shares)))
    spacing = time_of(frames(page).nth(1))
    assert abs(time_of(most) + spacing / 2 - CUT_S) <= spacing
    expect(page.locator("#looked")).to_contain_text(f"looked most at {time_of(most):.2f} s")


def test_bars_and_curve_are_as_high_as_the_attention_and_stand_over_their_frames(cut_visit: Visit) -> None:
    page = cut_visit.page
    shares = [share(frame) for frame in frames(page).all()]
    heights = [bar.bounding_box()["height"] for bar in frames(page).locator(".bar").all()]  # type: ignore[index]
    assert np.allclose(np.array(heights) / max(heights), np.array(shares) / max(shares), atol=0.03)
    for frame in frames(page).all():
        assert abs(middle(frame.locator(".bar")) - middle(frame.locator("canvas"))) < 1
    # The curve goes through the tops of the bars: its path is drawn in units of frames and of the highest bar.
    path = page.locator("#strip .curve path").get_attribute("d") or ""
    points = [tuple(map(float, point.split()[-2:])) for point in re.split("[MC]", path)[1:]]
    assert [x for x, _ in points] == [index + 0.5 for index in range(FRAMES)]
    assert np.allclose([1 - y for _, y in points], np.array(shares) / max(shares), atol=0.03)


def test_the_frames_that_the_model_kept_are_told_from_those_that_a_layer_dropped(cut_visit: Visit) -> None:
    page = cut_visit.page
    answer = json.loads(page.locator("#raw").text_content() or "")
    attention = answer["windows"][0]["attention"]
    kept = [frame["frame"] for frame in attention if frame["retention"] == 1]
    assert 0 < len(kept) < FRAMES
    for frame, known in zip(frames(page).all(), attention, strict=True):
        fate = frame.locator(".fate")
        if known["frame"] in kept:
            expect(fate).to_have_text("kept")
        else:
            expect(fate).to_have_text(f"dropped at layer {known['layer_retention'].index(0) + 1}")
    layers = page.locator("#layers tbody tr")
    expect(layers).to_have_count(len(attention[0]["layer_scores"]))
    expect(layers.locator("td.leaves")).to_have_count(FRAMES - len(kept))


def test_the_times_of_the_stages_add_up_to_the_total(cut_visit: Visit) -> None:
    *stages, total = [
        float(text.removesuffix(" ms")) for text in cut_visit.page.locator("#timings dd").all_inner_texts()
    ]
    assert abs(sum(stages) - total) < 0.1 * len(stages)
    assert min(stages) >= 0


def check_strip(page: Page) -> None:
    """Fails where a picture is not that of its frame's time."""
    expect(page.locator("#strip canvas.drawn")).to_have_count(FRAMES)
    for frame in frames(page).all():
        red, _, blue, _ = frame.locator("canvas").evaluate(
            "canvas => canvas.getContext('2d').getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data"
            " .reduce((all, value) => [...all, value], [])"
        )
        assert (red > blue) == (time_of(frame) < CUT_S)


def test_the_pictures_of_the_strip_are_those_of_the_video(cut_visit: Visit) -> None:
    check_strip(cut_visit.page)


# The video that the strip is drawn from is not in the page.
FORGET_THE_FIRST_SEEK = """() => {
    const { get, set } = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, "currentTime");
    let forgotten = 0;
    Object.defineProperty(HTMLMediaElement.prototype, "currentTime", {
        get,
        set(time) { if (this.isConnected || forgotten++ > 0) set.call(this, time); },
    });
}"""


def test_pictures_come_even_where_the_browser_lets_a_seek_lie(visit: Callable[..., Visit], cut: Path) -> None:
    opened = visit()
    opened.page.evaluate(FORGET_THE_FIRST_SEEK)
    page = opened.classify(cut)
    expect(page.locator("#strip canvas.drawn")).to_have_count(FRAMES)


# As a busy browser does: the event is there before the picture.
SEEK_TOO_EARLY = """() => {
    const { get, set } = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, "currentTime");
    Object.defineProperty(HTMLMediaElement.prototype, "currentTime", {
        get,
        set(time) {
            set.call(this, time);
            if (!this.isConnected) this.dispatchEvent(new Event("seeked"));
        },
    });
}"""


def test_a_picture_is_not_drawn_before_the_browser_shows_it(visit: Callable[..., Visit], cut: Path) -> None:
    opened = visit()
    opened.page.evaluate(SEEK_TOO_EARLY)
    check_strip(opened.classify(cut))


def test_choosing_a_frame_moves_the_video_and_the_playhead_there(cut_visit: Visit) -> None:
    page = cut_visit.page
    for index in (6, 2):
        chosen = frames(page).nth(index)
        chosen.click()
        expect(chosen).to_have_attribute("aria-pressed", "true")
        expect(page.locator('#strip [aria-pressed="true"]')).to_have_count(1)
        assert playing_time(page) == pytest.approx(time_of(chosen), abs=0.02)
        assert abs(middle(page.locator("#strip .playhead")) - middle(chosen)) < 3


def test_the_playhead_crosses_no_text(cut_visit: Visit) -> None:
    line = cut_visit.page.locator("#strip .playhead").bounding_box()
    share = frames(cut_visit.page).first.locator(".share").bounding_box()
    assert line is not None
    assert share is not None
    assert line["y"] >= share["y"] + share["height"] - 1
    for text in (".time", ".fate"):
        above, paper = (
            frames(cut_visit.page)
            .first.locator(text)
            .evaluate("node => [getComputedStyle(node).zIndex, getComputedStyle(node).backgroundColor]")
        )
        assert above == "1"
        assert paper.startswith("rgb(")  # Nothing shines through.


def test_the_frames_can_be_reached_and_chosen_by_the_keyboard(cut_visit: Visit) -> None:
    page = cut_visit.page
    frames(page).first.focus()
    page.keyboard.press("ArrowRight")
    expect(frames(page).nth(1)).to_be_focused()
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    expect(frames(page).last).to_have_attribute("aria-pressed", "true")
    assert playing_time(page) == pytest.approx(time_of(frames(page).last), abs=0.02)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#strip')") is None
