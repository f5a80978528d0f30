import json
import types
from typing import Any, Union, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from service.aggregate import aggregate
from service.api.openapi_examples import RESULT_EXAMPLE
from service.contracts import ClipScores, JobRequest, JobResult, JobState, told
from service.errors import BackendFailed
from service.queue.codec import Outcome, decode_scores, encode_scores
from testing.factories import decoded, record, scores, spec

values = st.floats(-100, 100, width=32)


@given(
    logits=st.lists(values, min_size=1, max_size=9),
    layers=st.integers(1, 4),
    frames=st.integers(1, 5),
    data=st.data(),
)
def test_scores_survive_their_encoding_exactly(
    logits: list[float], layers: int, frames: int, data: st.DataObject
) -> None:
    row = st.tuples(*[values] * frames)
    rows = st.tuples(*[row] * layers)
    before = ClipScores(
        logits=tuple(logits),
        temporal_attention=data.draw(row),
        layer_attention=data.draw(rows),
        layer_retention=data.draw(rows),
        queue_ms=1.5,
        inference_ms=2.5,
    )
    assert decode_scores(encode_scores(before)) == before


def test_scores_of_a_newer_release_with_more_fields_can_be_read() -> None:
    header, _, body = encode_scores(scores()).partition(b"\n")
    assert decode_scores(header[:-1] + b', "new_field": 1}\n' + body) == scores()


def test_a_failed_outcome_keeps_its_error() -> None:
    outcome = Outcome.decode(Outcome(JobState.FAILED, error=BackendFailed("broken", limit=1)).encode())
    assert outcome.state is JobState.FAILED
    assert outcome.error is not None
    assert outcome.error.to_dict() == BackendFailed("broken", limit=1).to_dict()


def test_scores_without_attention_and_with_an_embedding_survive_their_encoding() -> None:
    bare = ClipScores(logits=(1.0, 2.0), embedding=(0.25, -0.5, 4.0))
    assert decode_scores(encode_scores(bare)) == bare


def test_scores_of_an_earlier_release_have_no_embedding_and_no_attention_in_space() -> None:
    header, _, body = encode_scores(scores()).partition(b"\n")
    earlier = header.replace(b', "d": 0', b"").replace(b', "s": 0', b"")
    assert b'"d"' not in earlier
    assert b'"s"' not in earlier
    assert decode_scores(earlier + b"\n" + body) == scores()


def test_attention_in_space_survives_its_encoding_with_and_without_an_embedding() -> None:
    for embedding in ((), (0.5, 0.25)):
        looked = scores(spatial_attention=(0.125, 0.0, 0.5), embedding=embedding)
        assert decode_scores(encode_scores(looked)) == looked


def test_an_earlier_release_reads_what_stands_before_attention_in_space() -> None:
    header, _, body = encode_scores(scores(spatial_attention=(0.125, 0.5), embedding=(0.5,))).partition(b"\n")
    without = header.replace(b', "s": 2', b"")
    assert decode_scores(without + b"\n" + body) == scores(embedding=(0.5,))


def test_an_answer_about_a_video_without_a_frame_rate_can_be_read_by_its_caller() -> None:
    video = {**RESULT_EXAMPLE["video"], "fps": None}
    result = JobResult.model_validate({**RESULT_EXAMPLE, "video": video})
    text = told(result, result)
    assert '"fps"' not in text
    assert JobResult.model_validate_json(text).video.fps is None


def result(fps: float | None = 25.0) -> JobResult:
    seen = decoded(2)
    video = seen.video.model_copy(update={"fps": fps})
    job = record(
        id="0" * 32,
        request=JobRequest(windows=2, attention="layers"),
        decoded=seen.model_copy(update={"video": video}),
        created_at=1.0,
    )
    model = spec(labels=("Süd", 'a"b', "c", "d"))
    return aggregate(job, model, [scores(), scores((3.0, 2.0, 1.0, 0.0))], 2.0)


def written(said: JobResult) -> bytes:
    return Outcome(JobState.SUCCEEDED, result=said).encode()


def of_an_earlier_release(said: JobResult) -> bytes:
    """How releases before answers were passed on wrote an outcome."""
    return json.dumps({"v": 1, "state": "succeeded", "result": said.model_dump(mode="json")}).encode()


@pytest.mark.parametrize("fps", [25.0, None], ids=["frame rate", "no frame rate"])
def test_a_result_survives_its_encoding_exactly(fps: float | None) -> None:
    outcome = Outcome.decode(written(result(fps)))
    assert (outcome.state, outcome.error) == (JobState.SUCCEEDED, None)
    assert (outcome.result, outcome.timings) == (result(fps), result(fps).timings_ms)


@pytest.mark.parametrize("fps", [25.0, None], ids=["frame rate", "no frame rate"])
@pytest.mark.parametrize(
    "encode", [lambda said: Outcome(JobState.SUCCEEDED, result=said).encode(), of_an_earlier_release]
)
def test_the_answer_is_the_result_without_what_is_absent(encode: Any, fps: float | None) -> None:
    answer = Outcome.decode(encode(result(fps))).answer
    assert answer == result(fps).model_dump_json(exclude_none=True).encode()


def test_an_answer_is_not_read_before_somebody_asks_for_the_result() -> None:
    passed_on = Outcome.decode(written(result()).replace(b'"coverage":', b'"of_a_newer_release":7,"coverage":'))
    assert passed_on.answer is not None
    assert b'"of_a_newer_release":7' in passed_on.answer
    assert passed_on.result == result()


@pytest.mark.parametrize("fps", [25.0, None], ids=["frame rate", "no frame rate"])
def test_earlier_releases_read_a_result(fps: float | None) -> None:
    body = json.loads(written(result(fps)))
    assert (body["v"], body["state"]) == (1, "succeeded")
    assert JobResult.model_validate(body["result"]) == result(fps)


def test_an_error_that_quotes_a_result_is_an_error() -> None:
    error = BackendFailed('{"v":1,"state":"succeeded","timings_ms":{},"result":{}}')
    outcome = Outcome.decode(Outcome(JobState.FAILED, error=error).encode())
    assert (outcome.answer, outcome.timings, outcome.result) == (None, None, None)
    assert outcome.error is not None
    assert outcome.error.detail == error.detail


def models_in(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}.union(*(models_in(field.annotation) for field in annotation.model_fields.values()))
    return set().union(*map(models_in, get_args(annotation)))


def test_nothing_that_an_answer_leaves_out_has_to_be_given() -> None:
    nullable = {
        (model.__name__, name)
        for model in models_in(JobResult)
        for name, field in model.model_fields.items()
        if field.is_required()
        and get_origin(field.annotation) in (Union, types.UnionType)
        and type(None) in get_args(field.annotation)
    }
    assert nullable == set()


def test_a_signed_answer_is_passed_on_as_it_was_signed() -> None:
    signed = result().model_copy(update={"signature": "head..tail"})
    outcome = Outcome.decode(written(signed))
    assert (outcome.signature, outcome.answer) == ("head..tail", signed.model_dump_json(exclude_none=True).encode())
    assert outcome.result is not None
    assert {**outcome.result.document, "signature": None} == {**result().document, "signature": None}


def test_a_signed_answer_of_an_earlier_release_gets_no_members_that_came_later() -> None:
    body = {**result().model_dump(mode="json", exclude_none=True), "signature": "head..tail"}
    del body["warnings"]
    outcome = Outcome.decode(json.dumps({"v": 1, "state": "succeeded", "result": body}).encode())
    assert outcome.signature == "head..tail"
    assert json.loads(outcome.answer or b"") == body
