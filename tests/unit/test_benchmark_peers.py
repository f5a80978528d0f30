"""The peers stay short, are all asked the same, and are judged by the same rule."""

import json
import struct
from pathlib import Path

import pytest

from benchmarks.peers import run
from benchmarks.peers.environments import PINS

APPS = sorted(Path(run.__file__).parent.glob("*_app.py"))


def test_every_peer_has_an_app_and_an_environment() -> None:
    assert [app.name.removesuffix("_app.py") for app in APPS] == sorted(run.PEERS) == sorted(PINS)


@pytest.mark.parametrize("app", APPS, ids=lambda app: app.stem)
def test_the_app_of_a_peer_has_less_than_80_lines(app: Path) -> None:
    assert len(app.read_text().splitlines()) < 80


def test_a_file_goes_to_triton_as_one_element_of_bytes() -> None:
    head, _, body = run.as_tensor("camera_motion", b"video").partition(b"\r\n\r\n")
    fields = dict(line.split(": ") for line in head.decode().split("\r\n")[1:])
    described, element = body[: (size := int(fields["Inference-Header-Content-Length"]))], body[size:]
    [tensor] = json.loads(described)["inputs"]
    assert tensor["parameters"]["binary_data_size"] == len(element)
    assert element == struct.pack("<I", 5) + b"video"
    assert int(fields["Content-Length"]) == len(body)


@pytest.mark.parametrize(("ratio", "said"), [(1.04, "better"), (1.02, "tie"), (0.98, "tie"), (0.96, "WORSE")])
def test_a_difference_within_three_per_cent_is_a_tie(ratio: float, said: str) -> None:
    assert run.verdict(ratio) == said
