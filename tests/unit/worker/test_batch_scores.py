"""What a worker keeps of the outputs of a batch: attention in space only for clips whose answer is to have it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service.contracts import JobClass, JobRequest
from service.inference.backend import Scores, checked_scores
from service.queue.clip_entries import ClipEntry, entry_of
from service.queue.job_intake import entry_fields
from service.worker.batch import clip_scores
from testing.factories import record, spec


def queued(attention: Any) -> ClipEntry:
    """The entry of the first clip of a job that asks for so much attention, as it is read from the stream."""
    fields = entry_fields(record(request=JobRequest(attention=attention)), 0)
    return entry_of("tiny", JobClass.INTERACTIVE, b"1-0", {k.encode(): str(v).encode() for k, v in fields.items()})


def outputs() -> Scores:
    model = spec(spatial_grid=(2, 3))
    given = {name: np.zeros((2, *shape), np.float32) for name, shape in model.outputs.items()}
    given["spatial_attention"] = np.arange(48, dtype=np.float32).reshape(2, 4, 2, 3)
    return checked_scores(model, given, 2)


def test_attention_in_space_is_kept_row_by_row_where_it_is_asked_for() -> None:
    assert clip_scores(outputs(), 1, 0.0, 0.0, spatial=True).spatial_attention == tuple(range(24, 48))


def test_it_is_not_kept_where_nobody_asked() -> None:
    assert clip_scores(outputs(), 1, 0.0, 0.0).spatial_attention == ()


@pytest.mark.parametrize(("attention", "asked"), [("spatial", True), ("layers", False), ("none", False)])
def test_the_queue_says_of_each_clip_whether_it_is_asked_for(attention: str, *, asked: bool) -> None:
    assert queued(attention).spatial is asked
