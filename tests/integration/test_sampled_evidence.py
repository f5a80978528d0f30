"""Evidence of clips with too many frames for all subsets, beside exact Shapley values through a trained network."""

from __future__ import annotations

import os

import pytest

from benchmarks.sampled_evidence import compared, longer_network, moving_clips
from service.causal_evidence import evidence_plan
from service.contracts import JobRequest
from tests.fixtures.extras import TRAINING

pytestmark = [pytest.mark.slow, TRAINING]

CLIPS = int(os.environ.get("VIDTR_SAMPLED_CLIPS", "2"))
FRAMES = 10
ORDERS = JobRequest().evidence_orders
HOLDS = 0.95


def test_sampled_contributions_lie_within_the_stated_error_of_the_exact_ones() -> None:
    network = longer_network(FRAMES)
    clips = moving_clips(network)
    found = [compared(network, next(clips), ORDERS) for _ in range(CLIPS)]
    held = sum(one.within for one in found)
    print(f"{held} of {CLIPS} clips within the stated error")
    assert held / CLIPS >= HOLDS
    planned = evidence_plan(JobRequest(evidence="causal"), FRAMES)
    assert planned is not None
    assert planned.masks + 1 < 1 << FRAMES, "all subsets were scored: nothing was sampled"
    assert max(one.stated for one in found) > 0
