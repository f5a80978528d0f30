"""The pictures of the page on the model show what the bundled model computes."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from docs.figure_data import CUT, ClipExplanation, example, shipped_model, shipped_network
from docs.pictures import PICTURES, as_svg
from service.inference.torchscript_archive import load_archive
from service.model.layers import NetworkOutput
from service.model.vidtr import VidTr
from tests.fixtures.servers import REPOSITORY_ROOT

DOCS = REPOSITORY_ROOT / "docs"


@pytest.fixture(scope="module")
def network() -> VidTr:
    return shipped_network()


@pytest.fixture(scope="module")
def looked(network: VidTr) -> ClipExplanation:
    return example(network)[0]


@pytest.fixture(scope="module")
def served(looked: ClipExplanation) -> NetworkOutput:
    """What the file that is served makes of the clip."""
    module = load_archive(shipped_model().path)
    with torch.inference_mode():
        return NetworkOutput(*(values[0] for values in module(looked.clip[None])[:4]))


def texts(svg: bytes) -> list[str]:
    """All that is written in a picture, in the order of the file."""
    return [html.unescape(text) for text in re.findall(r"<text [^>]*>([^<]+)</text>", svg.decode())]


def numbers(svg: bytes, digits: int) -> list[float]:
    return [float(text) for text in texts(svg) if re.fullmatch(rf"0\.\d{{{digits}}}", text)]


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_stands_on_the_page_with_words_for_those_who_cannot_see_it(name: str) -> None:
    [words] = re.findall(rf"!\[([^]]+)\]\({re.escape(name)}\)", (DOCS / "model.md").read_text(encoding="utf-8"))
    assert len(words.split()) > 10


def test_there_are_no_other_pictures_of_the_model() -> None:
    assert {path.name for path in DOCS.glob("model_*")} == set(PICTURES)


@pytest.mark.parametrize("name", PICTURES)
def test_the_picture_of_the_page_says_what_the_model_computes_today(
    name: str, network: VidTr, looked: ClipExplanation
) -> None:
    committed, drawn = (DOCS / name).read_bytes(), as_svg(PICTURES[name], network, looked)

    def words(svg: bytes) -> list[str]:
        return [re.sub(r"0\.\d+", "#", text) for text in texts(svg)]

    assert words(committed) == words(drawn)
    for digits in (2, 3, 4):
        # A picture that was drawn on another processor may round the last digit otherwise.
        assert numbers(committed, digits) == pytest.approx(numbers(drawn, digits), abs=1.5 * 10.0**-digits)


def test_the_program_writes_all_pictures_and_counts_what_the_page_says(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "docs.pictures", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY_ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == set(PICTURES)
    counted = re.search(r"(\d+) of (\d+) clips lose both frames", done.stdout)
    assert counted is not None
    page = " ".join((DOCS / "model.md").read_text(encoding="utf-8").split())
    assert f"of {counted[2]} generated clips {counted[1]} lose both frames" in page


def test_the_bars_are_the_attention_that_is_served(
    network: VidTr, looked: ClipExplanation, served: NetworkOutput
) -> None:
    drawn = numbers(as_svg(PICTURES["model_attention.svg"], network, looked), 3)
    even = 1 / network.frames
    assert sorted(drawn) == pytest.approx(sorted([*served.temporal_attention.tolist(), even]), abs=6e-4)


def test_the_table_is_the_attention_of_each_layer_as_it_is_served(
    network: VidTr, looked: ClipExplanation, served: NetworkOutput
) -> None:
    written = texts(as_svg(PICTURES["model_attention.svg"], network, looked))
    cells = network.config.depth * network.config.frames
    table = [text for text in written if re.fullmatch(r"0\.\d\d|gone", text)][-cells:]
    carried = torch.cat([torch.ones(1, network.frames), served.layer_retention[:-1]]).flatten().tolist()
    shares = served.layer_attention.flatten().tolist()
    assert table == [f"{share:.2f}" if there else "gone" for share, there in zip(shares, carried, strict=True)]


def test_the_frames_that_are_drawn_as_kept_are_those_of_the_served_retention(
    looked: ClipExplanation, served: NetworkOutput
) -> None:
    for choice in looked.choices:
        assert list(choice.kept) == served.layer_retention[choice.layer - 1].nonzero().flatten().tolist()


def test_the_deviations_that_are_drawn_explain_the_choice(network: VidTr, looked: ClipExplanation) -> None:
    written = numbers(as_svg(PICTURES["model_dropping.svg"], network, looked), 4)
    assert written == [round(value, 4) for choice in looked.choices for value in choice.deviations.values()]
    for choice in looked.choices:
        best = sorted(choice.deviations, key=lambda frame: -choice.deviations[frame])[: len(choice.kept)]
        assert sorted(best) == list(choice.kept)


def test_the_schedule_that_is_drawn_is_that_of_the_network(network: VidTr, looked: ClipExplanation) -> None:
    written = texts(as_svg(PICTURES["model_grid.svg"], network, looked))
    alive = network.frames
    for _, keep in network.config.pooling:
        assert f"keep {keep} of {alive}" in written
        alive = keep
    assert f"{alive} frames + class row" in written


def test_the_clip_is_called_a_cut(served: NetworkOutput) -> None:
    assert int(served.logits.argmax()) == CUT
