"""The page, in a real browser against the running program."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from service.api.api_keys import hashed, new_key
from testing.program import Program
from testing.videos import write_video
from tests.e2e.browser import PHONE, SCREENSHOTS, Visit
from tests.e2e.nearly import nearly
from tests.e2e.page.drawn import FPS, LONG_S, red_then_blue
from tests.e2e.page.strip import FRAMES, frames, middle, playing_time, time_of

pytestmark = pytest.mark.slow


# --- a long video ------------------------------------------------------------------------------------------------


def test_a_long_video_has_a_window_by_window_timeline_that_leads_into_it(long_visit: Visit) -> None:
    page = long_visit.page
    answer = json.loads(page.locator("#raw").text_content() or "")
    segments = page.locator("#timeline .segment")
    expect(segments).to_have_count(len(answer["windows"]))
    nothing = "no clear motion"
    labels = [nothing if w.get("abstained") else w["predictions"][0]["label"] for w in answer["windows"]]
    assert len(set(labels) - {nothing}) > 1
    colours = [segment.evaluate("node => getComputedStyle(node).backgroundColor") for segment in segments.all()]
    assert len(set(zip(labels, colours, strict=True))) == len(set(labels)) == len(set(colours))
    expect(page.locator("#legend li")).to_have_count(len(set(labels) - {nothing}))
    for number in (6, 3):
        window = answer["windows"][number]
        segments.nth(number).click()
        expect(page.locator("#window-title")).to_contain_text(f"Window {number + 1} of {len(labels)}")
        expect(segments.nth(number)).to_have_attribute("aria-pressed", "true")
        assert playing_time(page) == pytest.approx(window["start_s"], abs=0.02)
        expect(page.locator("#window-labels")).to_contain_text(labels[number].replace("_", " "))
        assert time_of(frames(page).first) == pytest.approx(window["attention"][0]["time_s"], abs=0.01)
    page.get_by_role("button", name="Window after").click()
    expect(page.locator("#window-title")).to_contain_text("Window 5 of")
    expect(page.locator("#strip canvas.drawn")).to_have_count(FRAMES)


def test_a_click_on_the_curve_over_time_goes_to_that_moment(long_visit: Visit) -> None:
    page = long_visit.page
    chart = page.locator("#timeline .over-time")
    box = chart.bounding_box()
    assert box is not None
    chart.click(position={"x": box["width"] - 2, "y": 10})
    assert playing_time(page) == pytest.approx(LONG_S, abs=0.3)
    expect(page.locator("#window-title")).to_contain_text("Window 10 of 10")
    assert abs(middle(page.locator("#timeline .playhead")) - (box["x"] + box["width"])) < 5


# --- the way to an answer ----------------------------------------------------------------------------------------


def test_every_stage_is_said_to_screen_readers(visit: Callable[..., Visit], long: Path) -> None:
    opened = visit()
    opened.page.evaluate(
        "() => { window.heard = []; const said = document.getElementById('said');"
        " new MutationObserver(() => heard.push(said.textContent)).observe(said, {childList: true}); }"
    )
    opened.classify(long)
    heard = opened.page.evaluate("heard")
    assert heard[:3] == ["Uploading", "Decoding", "Scoring"]
    assert heard[3].startswith("Classified: ")
    expect(opened.page.locator("#title")).to_be_focused()


def test_a_request_can_be_cancelled(visit: Callable[..., Visit], cut: Path) -> None:
    page = visit().page
    # The request is never sent on, so that it is certainly under way.
    page.route("**/v1/classify**", lambda route: None)
    page.set_input_files("#file", cut)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#progress")).to_be_hidden()
    expect(page.locator("#said")).to_have_text("Cancelled")
    expect(page.locator("#problem")).to_be_hidden()


def test_a_snippet_of_the_webcam_is_recorded_and_classified(visit: Callable[..., Visit]) -> None:
    opened = visit()
    page = opened.page
    page.get_by_role("button", name="Record the webcam").click()
    page.get_by_role("button", name="Record", exact=True).click()
    page.get_by_role("button", name="Stop and classify (4 s)").click()
    opened.answered()
    expect(page.locator("#title")).to_have_text(re.compile(r"webcam-\d{8}-\d{6}\.webm"))
    expect(page.locator("#strip canvas.drawn")).to_have_count(FRAMES)
    frames(page).last.click()
    assert playing_time(page) == pytest.approx(time_of(frames(page).last), abs=0.05)


def test_the_webcam_is_watched_live_until_it_is_stopped(visit: Callable[..., Visit], program: Program) -> None:
    page = visit().page
    page.get_by_role("button", name="Watch the webcam live").click()
    expect(page.locator("#live-row .segment").nth(2)).to_be_visible()
    expect(page.locator("#live-facts")).to_have_text(re.compile(r"^\d+\.\d\d s after it was filmed"))
    expect(page.locator("#live-said")).not_to_have_text("Waiting for the first window…")
    page.screenshot(path=SCREENSHOTS / "live.png")
    with page.expect_response(lambda answer: answer.request.method == "DELETE") as ended:
        page.get_by_role("button", name="Stop", exact=True).click()
    assert ended.value.status == 204
    expect(page.locator("#live")).to_be_hidden()
    expect(page.locator("#problem")).to_be_hidden()
    stream = httpx.get(ended.value.url).json()
    assert (stream["state"], stream["reason"]) == ("ended", "deleted")


def test_options_are_sent_and_the_model_can_be_picked(
    visit: Callable[..., Visit], program: Program, long: Path
) -> None:
    page = visit().page
    expect(page.locator("#model")).to_have_value("camera_motion")
    [served] = httpx.get(f"{program.url}/v1/models").json()["models"]
    expect(page.locator("#model-labels-count")).to_have_text(f"{len(served['labels'])} labels")
    page.locator("#options summary").click()
    page.get_by_role("combobox", name="Windows").fill("3")
    page.get_by_role("spinbutton", name="Labels").fill("2")
    page.set_input_files("#file", long)
    expect(page.locator("#timeline .segment")).to_have_count(3)
    expect(page.locator("#labels li:not(.nothing)")).to_have_count(2)


@pytest.mark.parametrize("language", ["curl", "Python"])
def test_the_snippet_repeats_the_request(cut_visit: Visit, cut: Path, language: str) -> None:
    page = cut_visit.page
    page.get_by_role("tab", name=language).click()
    snippet = page.locator("#snippet").text_content() or ""
    command = ["bash", "-c", snippet] if language == "curl" else [sys.executable, "-c", snippet]
    done = subprocess.run(command, cwd=cut.parent, capture_output=True, text=True, check=True, timeout=60)
    shown = json.loads(page.locator("#raw").text_content() or "")
    assert json.loads(done.stdout)["windows"] == nearly(shown["windows"])
    page.locator("#copy-snippet").click()
    expect(page.locator("#copy-snippet")).to_have_text("Copied")


def test_the_last_results_are_there_after_a_reload_with_their_videos(visit: Callable[..., Visit], cut: Path) -> None:
    page = visit().classify(cut)
    expect(page.locator("#cards img")).to_have_count(1)
    page.reload()
    expect(page.locator("#result")).to_be_hidden()
    page.locator("#cards button").click()
    expect(page.locator("#labels li .name").first).to_have_text("cut")
    expect(page.locator("#strip canvas.drawn")).to_have_count(FRAMES)
    page.get_by_role("button", name="Forget all").click()
    expect(page.locator("#gallery")).to_be_hidden()
    page.reload()
    page.locator("#model option").first.wait_for(state="attached")
    expect(page.locator("#gallery")).to_be_hidden()


# --- what goes wrong ---------------------------------------------------------------------------------------------


def test_a_file_that_is_no_video_is_refused_in_the_words_of_the_service(
    visit: Callable[..., Visit], tmp_path: Path
) -> None:
    (tmp_path / "notes.mp4").write_text("no video")
    opened = visit()
    opened.page.set_input_files("#file", tmp_path / "notes.mp4")
    problem = opened.page.get_by_role("alert")
    expect(problem).to_contain_text("container not allowed")
    expect(problem).to_contain_text("limit")
    expect(problem).to_contain_text("request")
    expect(opened.page.locator("#progress")).to_be_hidden()
    assert opened.accessibility_violations() == []
    opened.screenshot("error-light")


def test_a_value_over_a_limit_is_named_beside_the_limit(visit: Callable[..., Visit], cut: Path) -> None:
    opened = visit()
    opened.page.locator("#options summary").click()
    opened.page.get_by_role("combobox", name="Windows").fill("999")
    opened.page.set_input_files("#file", cut)
    expect(opened.page.get_by_role("alert")).to_contain_text("999")
    expect(opened.page.get_by_role("alert")).to_contain_text(re.compile(r"limit\s*200"))


def test_a_video_that_the_browser_cannot_play_still_shows_its_answer(
    visit: Callable[..., Visit], tmp_path: Path
) -> None:
    path = write_video(tmp_path / "old.avi", 33, fps=FPS, size=(320, 180), codec="mpeg4", draw=red_then_blue)
    opened = visit()
    page = opened.classify(path)
    expect(page.locator("#no-playback")).to_be_visible()
    # A little longer than a window: its two windows overlap, and neither hides the other.
    # In one look, as the page may still be scrolling.
    (_, end), (start, _) = page.locator("#timeline .segment").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect()).map(box => [box.top, box.bottom])"
    )
    assert end <= start
    expect(page.locator("#labels li .name").first).to_have_text("cut")
    frames(page).nth(4).click()
    expect(frames(page).nth(4)).to_have_attribute("aria-pressed", "true")
    assert abs(middle(page.locator("#strip .playhead")) - middle(frames(page).nth(4))) < 3
    assert opened.accessibility_violations() == []
    opened.screenshot("unplayable-light")


def test_a_server_that_wants_a_key_gets_one_which_no_snippet_shows(
    visit: Callable[..., Visit], cut: Path, tmp_path: Path
) -> None:
    key = new_key()
    (tmp_path / "keys.toml").write_text(f'[[keys]]\nname = "visitor"\nhash = "{hashed(key)}"\n')
    guarded = Program(
        tmp_path, VIDTR_API_KEYS_FILE=str(tmp_path / "keys.toml"), VIDTR_ANONYMOUS="deny", VIDTR_TORCH_THREADS="1"
    )
    with guarded:
        opened = visit(guarded.url)
        expect(opened.page.get_by_role("alert")).to_contain_text("The request has no API key")
        expect(opened.page.locator("#key")).to_be_focused()
        opened.page.keyboard.type(key)
        opened.page.keyboard.press("Enter")
        expect(opened.page.locator("#model")).to_have_value("camera_motion")
        expect(opened.page.get_by_role("alert")).to_be_hidden()
        page = opened.classify(cut)
        snippet = page.locator("#snippet").text_content() or ""
        assert "$VIDTR_API_KEY" in snippet
        assert key not in snippet
        opened.expect_status(401)


# --- for everybody -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_before_and_after_an_answer(
    visit: Callable[..., Visit], cut: Path, long: Path, scheme: str
) -> None:
    opened = visit(color_scheme=scheme)
    opened.page.locator("#model option").first.wait_for(state="attached")
    for details in opened.page.locator("#form details").all():
        details.locator("summary").click()
    assert opened.accessibility_violations() == []
    opened.screenshot(f"start-{scheme}")
    for path in (cut, long):
        page = opened.classify(path)
        expect(page.locator("#title")).to_have_text(path.name)
        expect(page.locator("#strip canvas.drawn")).to_have_count(FRAMES)
        assert opened.accessibility_violations() == []
        opened.screenshot(f"{path.stem.split()[-1]}-{scheme}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything_without_scrolling_sideways(
    visit: Callable[..., Visit], long: Path, scheme: str
) -> None:
    opened = visit(color_scheme=scheme, **PHONE)
    assert opened.overflowing() == []
    opened.page.evaluate("document.getElementById('progress').hidden = false")
    assert opened.overflowing() == [], "while a video is on its way"
    page = opened.classify(long)
    expect(page.locator("#strip canvas.drawn")).to_have_count(FRAMES)
    assert opened.overflowing() == []
    strip = page.locator("#strip-scroll")
    assert strip.evaluate("box => box.scrollWidth <= box.clientWidth")
    assert opened.accessibility_violations() == []
    opened.screenshot(f"phone-{scheme}")


def test_nothing_moves_for_those_who_asked_for_less_motion(visit: Callable[..., Visit], cut: Path) -> None:
    page = visit(reduced_motion="reduce").page
    page.route("**/v1/classify**", lambda route: None)
    page.set_input_files("#file", cut)
    expect(page.locator("#progress")).to_be_visible()
    assert page.evaluate("document.getAnimations().length") == 0
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
