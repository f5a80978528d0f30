"""The page, in a real browser against the running program."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Locator, Page, expect

from service.api.api_keys import hashed, new_key
from testing.program import Program
from testing.videos import Image, write_video
from tests.e2e.browser import DESKTOP, PHONE, SCREENSHOTS, Visit
from tests.e2e.nearly import nearly

pytestmark = pytest.mark.slow

# Long enough for a busy machine; nothing waits longer than it has to.
expect.set_options(timeout=60_000)

FPS = 30
CUT_S = 0.5
FRAMES = 8
LONG_S = 30


# --- videos ------------------------------------------------------------------------------------------------------


def texture(seed: int, tint: tuple[float, float, float]) -> Image:
    """Squares of many sizes, in shades of a colour."""
    rng = np.random.default_rng(seed)
    height, width = 512, 1024
    total: NDArray[np.float64] = np.zeros((height, width, 1))
    for side in (64, 16, 8):
        total += np.kron(rng.random((height // side, width // side, 1)), np.ones((side, side, 1)))
    tinted: NDArray[np.uint8] = (255 * total / total.max() * tint).astype(np.uint8)
    return tinted


RED, BLUE = texture(1, (1.0, 0.45, 0.3)), texture(2, (0.3, 0.5, 1.0))


def part(picture: Image, x: float, y: float, width: int, height: int) -> Image:
    return np.ascontiguousarray(picture[int(y) : int(y) + height, int(x) : int(x) + width])


def red_then_blue(number: int, width: int, height: int) -> Image:
    return part(RED if number < CUT_S * FPS else BLUE, 100, 100, width, height)


def still_and_moving_in_turn(number: int, width: int, height: int) -> Image:
    scene, step = divmod(number, 3 * FPS)
    return part((RED, BLUE)[scene % 2], 60 + (3 * step if scene % 2 else 0), 100, width, height)


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # As long as one window.
    path = tmp_path_factory.mktemp("videos") / "a cut.webm"
    return write_video(path, 32, fps=FPS, size=(320, 180), codec="libvpx-vp9", draw=red_then_blue)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "long.webm"
    return write_video(path, LONG_S * FPS, fps=FPS, size=(256, 144), codec="libvpx", draw=still_and_moving_in_turn)


# --- the browser -------------------------------------------------------------------------------------------------


@pytest.fixture
def visit(browser: Browser, program: Program) -> Iterator[Callable[..., Visit]]:
    """Opens pages; at the end none of them may have complained in the console or asked another host."""
    with ExitStack() as stack:

        def opened(url: str = program.url, **context: Any) -> Visit:
            return stack.enter_context(closing(Visit(browser, url, **{**DESKTOP, **context})))

        yield opened


@pytest.fixture(scope="module")
def cut_visit(browser: Browser, program: Program, cut: Path) -> Iterator[Visit]:
    """A page that shows the answer for `cut`, for tests that only look at it and move the playhead."""
    with closing(Visit(browser, program.url, **DESKTOP)) as visit:
        visit.classify(cut)
        yield visit


@pytest.fixture(scope="module")
def long_visit(browser: Browser, program: Program, long: Path) -> Iterator[Visit]:
    """The same for `long`."""
    with closing(Visit(browser, program.url, **DESKTOP)) as visit:
        visit.classify(long)
        yield visit


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


# --- one window --------------------------------------------------------------------------------------------------


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
