from hypothesis import given
from hypothesis import strategies as st

from service.api.openapi_examples import RESULT_EXAMPLE
from service.contracts import ClipScores, JobResult, JobState, told
from service.errors import BackendFailed
from service.queue.codec import Outcome, decode_scores, encode_scores
from testing.factories import scores

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
