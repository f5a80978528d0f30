import pytest
import torch

from service.model.factory import build_network, for_inference
from tests.unit.model.networks import VARIANTS, random_clips, sharp


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_what_inference_leaves_out_changes_no_output(name: str) -> None:
    network = sharp(VARIANTS[name])
    clips = random_clips(network, 2)
    with torch.inference_mode():
        for ours, full in zip(for_inference(network)(clips), network(clips), strict=True):
            torch.testing.assert_close(ours, full, atol=1e-5, rtol=0)


def test_the_network_itself_stays_as_it_was() -> None:
    network = build_network(VARIANTS["vidtr"]).train()
    for_inference(network)
    assert network.training
    assert not any(layer.cls_only for layer in network.encoder.layers)
