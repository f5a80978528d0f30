"""The page asks for evidence, and shows what frames contribute beside their attention."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from service.contracts import FrameEvidence, JobResult, WindowEvidence
from testing.answers import answer, window
from testing.factories import faithfulness, spec
from tests.e2e.browser import DESKTOP, PHONE, Visit
from tests.fixtures.made_answers import MadeAnswers, made_answers

pytestmark = pytest.mark.slow

GAINS = (0.05, 0.2, 0.0, 0.3, -0.04, 0.1, 0.02, 0.07)
ENOUGH = {1, 3}
PLAIN = window(0.0, 2.0, "pan_right")
CAUSE = WindowEvidence(
    label="pan_right",
    score=0.9,
    still_score=0.2,
    error=0.0,
    frames=tuple(
        FrameEvidence(time_s=t / 4, frame=t, contribution=gain, enough=t in ENOUGH) for t, gain in enumerate(GAINS)
    ),
    forwards=256,
    engine_ms=812.0,
)
WITHOUT = answer((), windows=(PLAIN,), shots=(), duration_s=2.0)
WITH = answer((), windows=(PLAIN.model_copy(update={"evidence": CAUSE}),), shots=(), duration_s=2.0)


@pytest.mark.parametrize(
    ("name", "context"),
    [("light", DESKTOP), ("dark", {**DESKTOP, "color_scheme": "dark"}), ("phone", PHONE)],
)
def test_the_button_sends_the_request_again_and_the_answer_shows_what_each_frame_adds(
    browser: Browser, server: MadeAnswers, film: Path, name: str, context: dict[str, Any]
) -> None:
    with closing(Visit(browser, server.url, **context)) as visit:
        server.answer = WITHOUT
        page = visit.classify(film)
        asked, body = server.asked
        expect(page.locator("#needed")).to_be_hidden()
        assert page.locator(".cause").count() == 0
        server.answer = WITH
        page.get_by_role("button", name="What did it need?").click()
        expect(page.locator("#needed")).to_contain_text(
            "The frames at 0.25 s, 0.75 s keep 90 % of it without the others."
        )
        expect(page.locator("#needed")).to_contain_text(
            "90.0 % with all frames and 20.0 % where one frame stands still"
        )
        assert server.asked[0] == {**asked, "evidence": "causal", "evidence_window": "0"}
        assert film.read_bytes() in server.asked[1]
        assert film.read_bytes() in body
        expect(page.locator("#ask-evidence")).to_be_hidden()
        assert page.locator(".gain").all_inner_texts() == [
            *("+0.05", "+0.20", "+0.00", "+0.30", "−0.04", "+0.10", "+0.02", "+0.07")
        ]
        heights = page.locator(".cause").evaluate_all("all => all.map(bar => bar.getBoundingClientRect().height)")
        assert heights[3] == max(heights)
        assert heights[4] == 0, "a frame that speaks against the label has no bar"
        assert heights[1] / heights[3] == pytest.approx(2 / 3, abs=0.02)
        expect(page.get_by_role("button", name="Frame 4 of 8")).to_have_accessible_name(
            "Frame 4 of 8 at 0.75 s: attention 20.0 %, kept to the last layer, adds +0.30 to the score, one of"
            " those that are enough"
        )
        assert visit.accessibility_violations() == []
        visit.screenshot(f"evidence-{name}")


@pytest.mark.parametrize(("name", "context"), [("light", DESKTOP), ("phone", PHONE)])
def test_how_far_attention_can_be_believed_stands_beside_its_bars(
    browser: Browser, film: Path, name: str, context: dict[str, Any]
) -> None:
    with made_answers() as server:
        server.answer = WITHOUT
        made_by = WITHOUT.model
        server.model = spec(
            name=made_by.name,
            version=made_by.version,
            weights_sha256=made_by.weights_sha256,
            faithfulness=faithfulness(),
        )
        with closing(Visit(browser, server.url, **context)) as visit:
            page = visit.classify(film)
            expect(page.locator("#faithful")).to_have_text(
                "Attention of this model: 41 % (± 9 %) of what is attainable in telling which frames a label rests on, "
                "measured on 120 clips of real videos."
            )
            assert visit.accessibility_violations() == []
            assert visit.overflowing() == []
            visit.screenshot(f"faithfulness-{name}")


def test_where_nothing_was_measured_of_these_weights_nothing_is_claimed(browser: Browser, film: Path) -> None:
    with made_answers() as server:
        server.answer = WITHOUT
        made_by = WITHOUT.model
        server.model = spec(
            name=made_by.name, version=made_by.version, weights_sha256="f" * 64, faithfulness=faithfulness()
        )
        with closing(Visit(browser, server.url, **DESKTOP)) as visit:
            expect(visit.classify(film).locator("#faithful")).to_be_hidden()


def test_each_window_of_a_long_video_is_explained_by_itself(browser: Browser, film: Path) -> None:
    plain = tuple(window(number / 3, (number + 1) / 3, "pan_right") for number in range(6))

    def explained(index: int) -> JobResult:
        windows = [*plain]
        windows[index] = plain[index].model_copy(update={"evidence": CAUSE})
        return answer((), windows=tuple(windows), shots=(), duration_s=2.0)

    with made_answers() as server, closing(Visit(browser, server.url, **DESKTOP)) as visit:
        server.answer = answer((), windows=plain, shots=(), duration_s=2.0)
        page = visit.classify(film)
        ask = page.get_by_role("button", name="What did it need?")
        for index in (1, 2):
            page.get_by_role("button", name="Window after").click()
            expect(page.locator("#needed")).to_be_hidden()
            server.answer = explained(index)
            ask.click()
            expect(page.locator("#needed")).to_contain_text("keep 90 % of it")
            expect(page.locator("#window-title")).to_contain_text(f"Window {index + 1} of 6")
            assert server.asked[0]["evidence_window"] == str(index)
        page.get_by_role("button", name="Window before").click()
        expect(page.locator("#needed")).to_contain_text("keep 90 % of it")
        page.get_by_role("button", name="Window before").click()
        expect(page.locator("#needed")).to_be_hidden()
        expect(ask).to_be_visible()
        page.get_by_role("button", name="Window after").click()
        visit.screenshot("evidence-window")
