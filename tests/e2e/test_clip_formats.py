"""Uploads for a model whose clips travel in 4:2:0, through the running program."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from service.model.model_export import export_model
from service.model.presets import build_preset, find_preset
from testing.program import Program, upload


@pytest.fixture(scope="module")
def two_formats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The program with one network under two names: `whole` takes RGB, `half` takes 4:2:0."""
    folder = tmp_path_factory.mktemp("formats")
    network, card = build_preset("untrained_tiny"), find_preset("untrained_tiny").card
    export_model(network, folder / "models", name="whole", version=1, card=card)
    half = replace(card, clip_format="yuv420")
    export_model(network, folder / "models", name="half", version=1, card=half)
    with Program(folder, VIDTR_MODEL_REPOSITORY=str(folder / "models"), VIDTR_DEFAULT_MODEL="whole") as program:
        yield program


def test_an_upload_is_answered_by_either_model_and_the_answers_are_close(two_formats: Program, clip: Path) -> None:
    with two_formats.client() as client:
        answers = {name: upload(client, clip, model=name, top_k=12, windows=2) for name in ("whole", "half")}
    assert {answer.status_code for answer in answers.values()} == {200}
    whole, half = (
        {prediction["label"]: prediction["score"] for prediction in answers[name].json()["predictions"]}
        for name in ("whole", "half")
    )
    assert whole.keys() == half.keys()
    assert max(abs(whole[label] - half[label]) for label in whole) < 0.05
    assert answers["half"].json()["model"]["name"] == "half"


def test_the_clips_of_an_upload_wait_in_half_the_bytes(two_formats: Program, clip: Path) -> None:
    workers = [process for process in two_formats.descendants if "worker" in process.cmdline()]
    assert workers
    for process in workers:
        process.suspend()
    try:
        kept: dict[str, set[int]] = {}
        with two_formats.client() as client, redis.Redis.from_url(two_formats.redis_url) as store:
            for name in ("whole", "half"):
                before = set(store.scan_iter("*:clip:*"))
                answer = client.post(
                    "/v1/classify",
                    files={"file": (clip.name, clip.read_bytes())},
                    params={"model": name},
                    headers={"Prefer": "respond-async"},
                )
                assert answer.status_code == 202, answer.text
                kept[name] = {store.strlen(key) for key in set(store.scan_iter("*:clip:*")) - before}
    finally:
        for process in workers:
            process.resume()
    assert kept == {"whole": {8 * 64 * 64 * 3}, "half": {8 * 64 * 64 * 3 // 2}}
