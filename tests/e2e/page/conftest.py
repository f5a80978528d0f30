from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from testing.program import Program
from testing.videos import write_video
from tests.e2e.browser import DESKTOP, Visit
from tests.e2e.page.drawn import FPS, LONG_S, red_then_blue, still_and_moving_in_turn
from tests.fixtures.made_answers import MadeAnswers, made_answers

# Long enough for a busy machine; nothing waits longer than it has to.
expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # As long as one window.
    path = tmp_path_factory.mktemp("videos") / "a cut.webm"
    return write_video(path, 32, fps=FPS, size=(320, 180), codec="libvpx-vp9", draw=red_then_blue)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "long.webm"
    return write_video(path, LONG_S * FPS, fps=FPS, size=(256, 144), codec="libvpx", draw=still_and_moving_in_turn)


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


@pytest.fixture(scope="module")
def server() -> Iterator[MadeAnswers]:
    """Says what a test has made up, instead of the program."""
    with made_answers() as server:
        yield server


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds, for the player."""
    return write_video(tmp_path_factory.mktemp("videos") / "film.webm", 50, fps=25, size=(160, 90), codec="libvpx")
