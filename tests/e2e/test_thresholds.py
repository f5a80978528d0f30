"""A model whose labels have thresholds, through the running program: what answers and the list of models say."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from service.client import AsyncClient, Client
from service.model.model_export import export_model
from service.model.presets import build_preset, find_preset
from testing.program import Program, upload

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
    program = Program(folder, VIDTR_MODEL_REPOSITORY=str(folder / "models"), VIDTR_DEFAULT_MODEL="eager")
    try:
        program.start()
        yield program
    finally:
        program.stop()


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
