"""A model whose labels have thresholds, through the running program: what answers and the list of models say."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import expect

from service.client import AsyncClient, Client
from service.model.model_export import export_model
from service.model.presets import build_preset, find_preset
from testing.program import Program, upload
from tests.e2e.browser import Visit, chromium
from tests.e2e.test_command_line import vidtr

EAGER, WARY = 0.0001, 0.9999


@pytest.fixture(scope="module")
def demanding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """One network thrice: `eager` passes every label but the first, `wary` none, `plain` has no thresholds."""
    folder = tmp_path_factory.mktemp("thresholds")
    network, card = build_preset("untrained_tiny"), replace(find_preset("untrained_tiny").card, activation="sigmoid")
    others = len(card.labels) - 1
    for name, thresholds in {"eager": (WARY, *[EAGER] * others), "wary": (WARY,) * (1 + others), "plain": ()}.items():
        card = replace(card, thresholds=thresholds)
        export_model(network, folder / "models", name=name, version=1, card=card)
    with Program(folder, VIDTR_MODEL_REPOSITORY=str(folder / "models"), VIDTR_DEFAULT_MODEL="eager") as program:
        yield program


def test_an_answer_says_of_each_label_its_threshold_and_whether_it_passes(demanding: Program, clip: Path) -> None:
    with demanding.client() as client:
        answer = upload(client, clip, top_k=12, windows=2).json()
    for place in (answer, *answer["windows"]):
        *others, last = place["predictions"]
        assert {(each["threshold"], each["passes"]) for each in others} == {(EAGER, True)}
        assert (last["label"], last["threshold"], last["passes"]) == ("static", WARY, False)
        assert place["abstained"] is False


def test_a_model_that_is_sure_of_nothing_abstains_and_still_answers(demanding: Program, clip: Path) -> None:
    with demanding.client() as client:
        answer = upload(client, clip, model="wary", windows=2)
    assert answer.status_code == 200
    said = answer.json()
    assert [place["abstained"] for place in (said, *said["windows"])] == [True, True, True]
    assert not any(each["passes"] for each in said["predictions"])


def test_an_answer_of_a_model_without_thresholds_is_as_ever(demanding: Program, clip: Path) -> None:
    with demanding.client() as client:
        answer = upload(client, clip, model="plain").json()
    assert "abstained" not in answer
    assert {frozenset(each) for each in answer["predictions"]} == {frozenset({"label", "index", "score"})}


@pytest.mark.slow
def test_the_page_shows_thresholds_and_says_where_nothing_is_clear(demanding: Program, clip: Path) -> None:
    with chromium() as browser, closing(Visit(browser, demanding.url)) as visit:
        page = visit.classify(clip)
        expect(page.locator("#labels li").first).to_contain_text("above its threshold of 0.0 %")
        expect(page.locator("#model-labels-list li").first).to_have_text("static from 100.0 %")
        page.select_option("#model", "wary")
        page.click("#again")
        nothing = page.locator("#labels li").first
        expect(nothing).to_contain_text("no clear motion")
        expect(page.locator("#labels li.fails")).to_have_count(5)
        expect(page.locator("#labels li.fails").first).to_contain_text("below its threshold of 100.0 %")
        expect(page.locator("#cards .said").first).to_have_text("no clear motion")
        # Random weights look at all frames alike.
        expect(page.locator("#looked")).to_contain_text(
            "looked at all frames about alike: none has 1.6 times the even share"
        )
        assert visit.accessibility_violations() == []
        visit.screenshot("thresholds")


def test_the_commands_say_where_nothing_is_clear(demanding: Program, clip: Path) -> None:
    sure, unsure = (vidtr("classify", "--server", demanding.url, "--model", name, clip) for name in ("eager", "wary"))
    assert (sure.returncode, unsure.returncode) == (0, 0)
    assert "no clear motion" in unsure.stdout
    assert "no clear motion" not in sure.stdout


def test_both_clients_read_thresholds_and_abstention(demanding: Program, clip: Path) -> None:
    with Client(demanding.url) as client:
        served = {model.name: model for model in client.models()}
        result = client.classify(clip, model="wary")
    assert served["plain"].thresholds == ()
    assert served["eager"].thresholds == (WARY, *[EAGER] * (len(served["eager"].labels) - 1))
    assert (result.abstained, result.predictions[0].threshold, result.predictions[0].passes) == (True, WARY, False)

    async def ask() -> bool | None:
        async with AsyncClient(demanding.url) as asking:
            return (await asking.classify(clip, model="eager")).abstained

    assert asyncio.run(ask()) is False
