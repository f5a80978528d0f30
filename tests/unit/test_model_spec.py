"""What a model's spec looks like where it crosses processes."""

from __future__ import annotations

import json

from service.contracts import ClipSpec, JobRecord, JobRequest, ModelSpec
from service.model.labels import read_labels
from service.video.forkserver_main import read_task, task_of
from service.wire import ModelInfo
from testing.factories import record, spec


def test_a_decode_task_says_how_clips_are_made_and_nothing_else_of_the_model() -> None:
    task = task_of(spec(), JobRequest(windows=2))
    assert read_task(task) == (spec().clip, JobRequest(windows=2), False)
    assert set(json.loads(task.partition(b"\n")[0])) == set(ClipSpec.model_fields)


def test_what_is_listed_of_a_model_is_what_its_spec_says() -> None:
    model = spec(description="four colors")
    info = ModelInfo.of(model, default=True)
    shared = set(ModelInfo.model_fields) & set(ModelSpec.model_fields)
    assert info.arithmetic == model.precision, "where the spec names none"
    shared -= {"arithmetic"}
    assert {name: getattr(info, name) for name in shared} == {name: getattr(model, name) for name in shared}
    assert (info.default, info.span_s) == (True, model.span_s)


def test_a_job_of_a_model_with_many_labels_has_a_small_record() -> None:
    model = spec(labels=read_labels("k400"), thresholds=(0.5,) * 400)
    whole, small = (len(record(spec=one).model_dump_json()) for one in (model, model.job_model))
    assert whole > 8000
    assert small < 1100


def test_a_record_with_the_whole_model_is_read_as_one_without() -> None:
    whole, small = record(spec=spec(route="tiny:1:0")), record(spec=spec(route="tiny:1:0").job_model)
    read = JobRecord.model_validate_json(whole.model_dump_json())
    assert read.spec == JobRecord.model_validate_json(small.model_dump_json()).spec == small.spec
    assert ModelSpec.model_validate(json.loads(whole.model_dump_json())["spec"]) == whole.spec
