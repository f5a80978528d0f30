"""The text of config.pbtxt says what Triton and the service are to read from it."""

import json
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2

from service.model.card import ModelCard
from service.model.triton_config import quote, triton_config
from service.model_config import parameters_of, parse_config
from tests.unit.model.networks import POOLED, tiny_config


def card(**changes: Any) -> ModelCard:
    values: dict[str, Any] = {
        "labels": ("a", "b", "c", "d"),
        "trained": True,
        "description": "a model",
        "frame_step": 4,
        "reference_fps": 30.0,
        "resize_short_side": 18,
        "max_batch_size": 6,
    }
    return ModelCard(**{**values, **changes})


def parse(text: str) -> Any:
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def parsed(**changes: Any) -> Any:
    return parse(triton_config("tiny", tiny_config(**POOLED), card(**changes), {"1": "ab", "2": "cd"}))


def parameter(config: Any, key: str) -> str:
    return str(config.parameters[key].string_value)


def test_triton_reads_the_name_the_backend_and_the_batch_size() -> None:
    config = parsed()
    assert (config.name, config.backend, config.max_batch_size) == ("tiny", "pytorch", 6)


def test_the_one_input_is_the_uint8_clip() -> None:
    (clips,) = parsed().input
    assert clips.name == "clips"
    assert clips.data_type == model_config_pb2.TYPE_UINT8
    assert list(clips.dims) == [6, 16, 24, 3]


def test_the_outputs_stand_in_the_order_of_the_returned_tuple() -> None:
    outputs = parsed().output
    assert {output.data_type for output in outputs} == {model_config_pb2.TYPE_FP32}
    assert [(output.name, list(output.dims)) for output in outputs] == [
        ("logits", [4]),
        ("temporal_attention", [6]),
        ("layer_attention", [3, 6]),
        ("layer_retention", [3, 6]),
    ]


def test_the_instance_runs_where_there_is_a_device_for_it() -> None:
    (group,) = parsed().instance_group
    assert (group.kind, group.count) == (model_config_pb2.ModelInstanceGroup.KIND_AUTO, 1)


def test_batches_wait_for_nobody_and_the_queue_is_bounded() -> None:
    batching = parsed().dynamic_batching
    assert batching.max_queue_delay_microseconds == 0
    assert batching.default_queue_policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
    assert batching.default_queue_policy.max_queue_size > 0


def test_warm_up_runs_each_batch_size_three_times_on_whole_clips() -> None:
    warmup = parsed().model_warmup
    assert [(w.batch_size, w.count) for w in warmup] == [(1, 3), (2, 3), (4, 3), (6, 3)]
    assert {tuple(w.inputs["clips"].dims) for w in warmup} == {(6, 16, 24, 3)}


def test_the_parameters_describe_preprocessing_and_meaning() -> None:
    config = parsed()
    expected = {
        "schema_version": "1",
        "description": "a model",
        "form": "cvidtr_paper",
        "trained": "true",
        "activation": "softmax",
        "frames": "6",
        "frame_step": "4",
        "reference_fps": "30",
        "sampling": "time",
        "image_size": "16x24",
        "resize_short_side": "18",
        "resize": "swscale_bilinear",
        "layers": "3",
    }
    assert {key: parameter(config, key) for key in expected} == expected


def test_what_of_a_frame_is_shown_stands_there_where_it_is_not_a_crop() -> None:
    assert "framing" not in parsed().parameters
    assert parameter(parsed(framing="whole"), "framing") == "whole"


def test_qualifiers_are_written_beside_thresholds_only() -> None:
    thresholds = {"activation": "sigmoid", "thresholds": (0.5,) * 4}
    assert "qualifiers" not in parsed(**thresholds).parameters
    assert json.loads(parameter(parsed(**thresholds, qualifiers=("c",)), "qualifiers")) == ["c"]
    for wrong in (
        {"qualifiers": ("c",)},
        {**thresholds, "qualifiers": ("e",)},
        {**thresholds, "qualifiers": tuple("abcd")},
    ):
        with pytest.raises(ValueError, match="qualifiers must be some of the labels, which have thresholds"):
            card(**wrong)


def test_thresholds_are_written_by_label() -> None:
    assert "thresholds" not in parsed().parameters
    written = parsed(activation="sigmoid", thresholds=(0.5, 0.25, 0.125, 0.75))
    assert json.loads(parameter(written, "thresholds")) == {"a": 0.5, "b": 0.25, "c": 0.125, "d": 0.75}


@pytest.mark.parametrize(
    "changes",
    [
        {"thresholds": (0.5,) * 4},
        {"thresholds": (0.5,), "activation": "sigmoid"},
        {"thresholds": (0.5, 0.5, 0.5, 1.0), "activation": "sigmoid"},
    ],
)
def test_thresholds_that_do_not_fit_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="thresholds must be one between 0 and 1 for each label of a sigmoid"):
        card(**changes)


def test_a_square_image_size_is_one_number() -> None:
    config = parse(triton_config("tiny", tiny_config(width=16), card(), {}))
    assert parameter(config, "image_size") == "16"


def test_labels_survive_quotes_backslashes_and_other_alphabets() -> None:
    labels = ('say "hi"', "back\\slash", "новый", "tab\tand\nline")
    assert tuple(json.loads(parameter(parsed(labels=labels), "labels"))) == labels


def test_each_version_has_its_own_weights_hash() -> None:
    assert json.loads(parameter(parsed(), "weights_sha256")) == {"1": "ab", "2": "cd"}


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives_protobuf(value: str) -> None:
    assert parse(f"name: {quote(value)}").name == value


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_written_parameter_is_read_back(value: str) -> None:
    text = triton_config("tiny", tiny_config(), card(description=value), {})
    assert parameters_of(parse_config(text, "tiny"))["description"] == value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ()}, "labels must be given"),
        ({"labels": ("a", "a")}, "each once"),
        ({"frame_step": 0}, "frame_step must be positive"),
        ({"reference_fps": -1.0}, "reference_fps must be positive"),
        ({"max_batch_size": 0}, "max_batch_size must be positive"),
        ({"sampling": "random"}, "sampling must be one of time, index"),
        ({"resize": "nearest"}, "resize must be one of"),
        ({"activation": "none"}, "activation must be one of softmax, sigmoid"),
    ],
)
def test_a_card_that_cannot_work_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        card(**changes)


def test_the_format_of_clips_stands_there_where_it_is_not_rgb() -> None:
    assert "clip_format" not in parsed().parameters
    config = parsed(clip_format="yuv420")
    assert parameter(config, "clip_format") == "yuv420"
    assert list(config.input[0].dims) == [6, 24, 24, 1]
    assert {tuple(warmup.inputs["clips"].dims) for warmup in config.model_warmup} == {(6, 24, 24, 1)}
