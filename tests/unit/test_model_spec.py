"""What a model's spec looks like where it crosses processes."""

from __future__ import annotations

import json

from service.contracts import ClipSpec, JobRequest, ModelSpec
from service.video.forkserver_main import read_task, task_of
from service.wire import ModelInfo
from testing.factories import spec


def test_a_decode_task_says_how_clips_are_made_and_nothing_else_of_the_model() -> None:
    task = task_of(spec(), JobRequest(windows=2))
    assert read_task(task) == (spec().clip, JobRequest(windows=2))
    assert set(json.loads(task.partition(b"\n")[0])) == set(ClipSpec.model_fields)


def test_what_is_listed_of_a_model_is_what_its_spec_says() -> None:
    model = spec(description="four colors")
    info = ModelInfo.of(model, default=True)
    shared = set(ModelInfo.model_fields) & set(ModelSpec.model_fields)
    assert {name: getattr(info, name) for name in shared} == {name: getattr(model, name) for name in shared}
    assert (info.default, info.span_s) == (True, model.span_s)
