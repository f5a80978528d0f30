import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from service.contracts import EventRules, ModelSpec
from service.inference.spec import spec_from_config
from service.model_config import ModelConfigError, read_config
from testing import factories
from tests.fixtures.tiny_models import CLIP_SHAPE, LABELS, config_text

DIGEST = "0" * 63 + "a"
TEXT = config_text("tiny", {"3": DIGEST})


def parse(text: str, version: str = "3") -> ModelSpec:
    return spec_from_config(text_format.Parse(text, ModelConfig()), version)


def write(folder: Path, text: str) -> Path:
    folder.mkdir()
    path = folder / "config.pbtxt"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_config_file_becomes_a_model_spec(tmp_path: Path) -> None:
    spec = spec_from_config(read_config(write(tmp_path / "tiny", TEXT)), "3")

    assert (spec.name, spec.version, spec.weights_sha256) == ("tiny", "3", DIGEST)
    assert spec.clip_shape == CLIP_SHAPE
    assert spec.labels == LABELS
    assert (spec.layers, spec.max_batch_size, spec.frame_step, spec.reference_fps) == (2, 4, 4, 29.97)
    assert (spec.trained, spec.activation, spec.sampling) == (False, "softmax", "time")
    assert (spec.form, spec.description, spec.resize) == ("cvidtr_paper", "three colors", "swscale_bilinear")


def test_a_model_sees_a_crop_unless_it_says_that_it_sees_the_whole_picture() -> None:
    whole = TEXT + 'parameters { key: "framing" value { string_value: "whole" } }'
    assert parse(TEXT).framing == "crop"
    assert parse(whole).framing == "whole"
    with pytest.raises(ModelConfigError, match="parameter 'framing' is 'half', expected 'crop' or 'whole'"):
        parse(whole.replace('"whole"', '"half"'))


IN_420 = TEXT.replace(str(list(CLIP_SHAPE)), str([4, 12, 8, 1])) + (
    'parameters { key: "clip_format" value { string_value: "yuv420" } }'
)


def test_a_model_takes_rgb_unless_it_says_that_it_takes_420() -> None:
    even = IN_420.replace('"9"', '"10"')
    assert parse(TEXT).clip_format == "rgb"
    assert (parse(even).clip_format, parse(even).clip_shape) == ("yuv420", (4, 12, 8, 1))
    with pytest.raises(ModelConfigError, match="parameter 'clip_format' is 'nv12', expected 'rgb' or 'yuv420'"):
        parse(even.replace('"yuv420"', '"nv12"'))


def test_a_model_that_takes_420_has_even_sizes() -> None:
    expected = "parameter 'clip_format' is 'yuv420' with resize_short_side 9, expected even sizes"
    with pytest.raises(ModelConfigError, match=expected):
        parse(IN_420)


def test_a_release_that_does_not_know_the_format_refuses_such_a_model() -> None:
    # It reads the file as it is without the parameter, and finds another tensor than the other parameters say.
    unknown = IN_420.partition('parameters { key: "clip_format"')[0]
    with pytest.raises(ModelConfigError, match=r"input 'clips' dims is \[4, 12, 8, 1\], expected \[4, 8, 8, 3\]"):
        parse(unknown)


def with_thresholds(value: str, activation: str = "sigmoid") -> str:
    text = TEXT.replace('"softmax"', f'"{activation}"')
    return text + f'parameters {{ key: "thresholds" value {{ string_value: {json.dumps(value)} }} }}'


def test_thresholds_come_in_the_order_of_the_labels() -> None:
    named = {label: (i + 1) / 10 for i, label in enumerate(reversed(LABELS))}
    assert parse(TEXT).thresholds == ()
    assert parse(with_thresholds(json.dumps(named))).thresholds == tuple(named[label] for label in LABELS)


@pytest.mark.parametrize(
    "value", ["[0.5]", "{}", json.dumps(dict.fromkeys(LABELS, 1.5)), json.dumps(dict.fromkeys(LABELS, True))]
)
def test_thresholds_that_are_not_one_for_each_label_are_refused(value: str) -> None:
    with pytest.raises(ModelConfigError, match="expected a JSON object of a number between 0 and 1 for each label"):
        parse(with_thresholds(value))


def test_qualifiers_are_some_of_the_labels() -> None:
    thresholds = with_thresholds(json.dumps(dict.fromkeys(LABELS, 0.5)))
    assert parse(thresholds).qualifiers == ()
    assert parse(thresholds + with_qualifiers(LABELS[:1])).qualifiers == LABELS[:1]
    for wrong in (["other"], LABELS):
        with pytest.raises(ModelConfigError, match="expected a JSON list of some of the labels"):
            parse(thresholds + with_qualifiers(wrong))
    with pytest.raises(ModelConfigError, match="nothing without thresholds"):
        parse(TEXT + with_qualifiers(LABELS[:1]))


def with_qualifiers(labels: Sequence[str]) -> str:
    return f'parameters {{ key: "qualifiers" value {{ string_value: {json.dumps(json.dumps(labels))} }} }}'


def with_faithfulness(value: object) -> str:
    return f'{TEXT}parameters {{ key: "faithfulness" value {{ string_value: {json.dumps(json.dumps(value))} }} }}'


def test_what_was_measured_of_attention_belongs_to_its_weights() -> None:
    measured = factories.faithfulness()
    assert parse(TEXT).faithfulness is None
    assert parse(with_faithfulness({DIGEST: measured.model_dump(mode="json")})).faithfulness == measured
    assert parse(with_faithfulness({"b" * 64: measured.model_dump(mode="json")})).faithfulness is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"clips": 1}, "clips is 1"),
        ({"deletion_gap": None}, "deletion_gap is None"),
        ({"seen": "many"}, "seen is 'many'"),
    ],
)
def test_measures_that_are_none_are_refused_by_name(changed: dict[str, object], said: str) -> None:
    found = factories.faithfulness().model_dump(mode="json") | changed
    with pytest.raises(ModelConfigError, match=f"parameter 'faithfulness', {said}"):
        parse(with_faithfulness({DIGEST: found}))


@pytest.mark.parametrize("value", [[], {"3": {}}, "none"])
def test_measures_of_no_weights_are_refused(value: object) -> None:
    with pytest.raises(ModelConfigError, match="expected a JSON object of weights' SHA-256"):
        parse(with_faithfulness(value))


def test_classes_have_no_thresholds() -> None:
    with pytest.raises(ModelConfigError, match="nothing without activation 'sigmoid'"):
        parse(with_thresholds(json.dumps(dict.fromkeys(LABELS, 0.5)), "softmax"))


def test_a_spec_survives_the_wire_format_of_the_model_config_call() -> None:
    config = text_format.Parse(TEXT, ModelConfig())
    received = ModelConfig.FromString(config.SerializeToString())

    assert spec_from_config(received, "3") == spec_from_config(config, "3")


def test_an_image_size_of_one_number_is_a_square() -> None:
    spec = parse(TEXT)

    assert (spec.height, spec.width) == (8, 8)


def test_an_image_size_of_two_numbers_is_height_by_width() -> None:
    text = TEXT.replace('string_value: "8"', 'string_value: "8x14"').replace("[4, 8, 8, 3]", "[4, 8, 14, 3]")

    spec = parse(text)

    assert (spec.height, spec.width) == (8, 14)


def test_labels_keep_their_characters_and_their_order() -> None:
    text = TEXT.replace('\\"static\\"', '\\"\\\\u00e9t\\303\\251 \\\\\\"x\\\\\\"\\"')

    assert parse(text).labels == ('été "x"', "pan_left", "pan_right")


def test_layers_may_be_given_as_a_parameter() -> None:
    text = TEXT + 'parameters { key: "layers" value { string_value: "2" } }'

    assert parse(text).layers == 2


def test_a_config_without_a_name_takes_that_of_its_folder(tmp_path: Path) -> None:
    path = write(tmp_path / "folder", TEXT.replace('name: "tiny"', "", 1))

    assert read_config(path).name == "folder"


def test_a_name_other_than_the_folders_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelConfigError, match="name is 'tiny', expected 'folder'"):
        read_config(write(tmp_path / "folder", TEXT))


def test_a_missing_config_file_is_reported_with_its_model(tmp_path: Path) -> None:
    with pytest.raises(ModelConfigError, match=r"model 'tiny': config.pbtxt is No such file"):
        read_config(tmp_path / "tiny" / "config.pbtxt")


@pytest.mark.parametrize("content", [b"frames: 8", b"name: ", b"\xff\xfe"])
def test_a_file_that_is_no_model_config_is_refused(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path / "tiny", "")
    path.write_bytes(content)

    with pytest.raises(ModelConfigError, match=r"config.pbtxt is not valid"):
        read_config(path)


REQUIRED = (
    "form trained activation frames frame_step reference_fps sampling image_size resize_short_side resize labels "
    "weights_sha256"
).split()


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_parameter_is_named(key: str) -> None:
    with pytest.raises(ModelConfigError, match=f"parameter '{key}' is missing, expected a value"):
        parse(TEXT.replace(f'key: "{key}"', 'key: "something_else"'))


def with_parameter(key: str, value: str) -> str:
    """TEXT with another value of one parameter; a later entry of a protobuf map replaces an earlier one."""
    config = text_format.Parse(TEXT, ModelConfig())
    config.parameters[key].string_value = value
    return text_format.MessageToString(config)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("trained", "perhaps", "a valid boolean"),
        ("activation", "tanh", "'softmax' or 'sigmoid'"),
        ("frames", "0", "greater than 0"),
        ("frames", "four", "a valid integer"),
        ("frame_step", "-1", "greater than 0"),
        ("reference_fps", "fast", "a valid number"),
        ("reference_fps", "inf", "a finite number"),
        ("sampling", "random", "'time' or 'index'"),
        ("resize", "nearest", "'swscale_bilinear' or 'opencv_bilinear'"),
        ("image_size", "8x", "'SIDE' or 'HEIGHTxWIDTH'"),
        ("image_size", "0", "'SIDE' or 'HEIGHTxWIDTH'"),
        ("resize_short_side", "7", "at least 8"),
        ("labels", "static, pan", "a JSON list"),
        ("labels", '["a", "b", 3]', "a JSON list"),
        ("labels", '["a", "b", ""]', "a JSON list"),
        ("labels", '["a", "b", "a"]', "distinct labels"),
        ("labels", "[]", "at least 1 item"),
        ("weights_sha256", DIGEST, "a JSON object"),
        ("weights_sha256", '{"3": "abc"}', "64 hexadecimal digits"),
        ("weights_sha256", '{"2": "' + DIGEST + '"}', "64 hexadecimal digits"),
        ("schema_version", "99", "at most 1"),
    ],
)
def test_an_unusable_value_is_reported_with_what_was_expected(key: str, value: str, expected: str) -> None:
    with pytest.raises(ModelConfigError) as caught:
        parse(with_parameter(key, value))

    assert key in caught.value.field
    assert expected in caught.value.expected


@pytest.mark.parametrize(
    ("old", "new", "field", "expected"),
    [
        ("dims: [4, 8, 8, 3]", "dims: [3, 4, 8, 8]", "input 'clips' dims", "[4, 8, 8, 3]"),
        ("dims: [4, 8, 8, 3]", "dims: [-1, 8, 8, 3]", "input 'clips' dims", "[4, 8, 8, 3]"),
        ("TYPE_UINT8", "TYPE_FP32", "input 'clips' data_type", "TYPE_UINT8"),
        ('"clips"', '"frames"', "input names", "['clips']"),
        ("dims: [3]", "dims: [4]", "output 'logits' dims", "[3]"),
        ("dims: [4] }", "dims: [5] }", "output 'temporal_attention' dims", "[4]"),
        ('"logits" data_type: TYPE_FP32', '"logits" data_type: TYPE_FP16', "output 'logits' data_type", "TYPE_FP32"),
        ('"layer_retention"', '"retention"', "output names", "'layer_retention'"),
        (
            '"layer_attention" data_type: TYPE_FP32 dims: [2, 4]',
            '"layer_attention" data_type: TYPE_FP32 dims: [3, 4]',
            "output 'layer_retention' dims",
            "[3, 4]",
        ),
        ("max_batch_size: 4", "max_batch_size: 0", "max_batch_size", "greater than 0"),
        ('name: "tiny"', 'name: "ti ny"', "name", "String should match"),
    ],
)
def test_tensors_that_contradict_the_parameters_are_refused(old: str, new: str, field: str, expected: str) -> None:
    assert old in TEXT

    with pytest.raises(ModelConfigError) as caught:
        parse(TEXT.replace(old, new, 1))

    assert caught.value.field == field
    assert expected in caught.value.expected


def test_outputs_in_another_order_are_refused() -> None:
    text = TEXT.replace('"logits"', '"x"').replace('"layer_retention"', '"logits"').replace('"x"', '"layer_retention"')

    with pytest.raises(ModelConfigError, match="in this order"):
        parse(text)


def test_a_second_input_is_refused() -> None:
    with pytest.raises(ModelConfigError, match="input names"):
        parse(TEXT + 'input { name: "mask" data_type: TYPE_UINT8 dims: [4] }')


def test_a_layers_parameter_that_contradicts_the_tensors_is_refused() -> None:
    text = TEXT + 'parameters { key: "layers" value { string_value: "5" } }'

    with pytest.raises(ModelConfigError, match=r"output 'layer_attention' dims is \[2, 4\], expected \[5, 4\]"):
        parse(text)


def test_layer_attention_without_a_layer_dimension_is_refused() -> None:
    text = TEXT.replace(
        '"layer_attention" data_type: TYPE_FP32 dims: [2, 4]', '"layer_attention" data_type: TYPE_FP32 dims: [4]'
    )

    with pytest.raises(ModelConfigError, match=r"output 'layer_attention' dims is \[4\], expected \[4, 4\]"):
        parse(text)


def with_events(rules: str) -> str:
    return f'parameters {{ key: "events" value {{ string_value: {json.dumps(rules)} }} }}'


JUDGED = with_thresholds(json.dumps(dict.fromkeys(LABELS, 0.5)))


def test_the_rules_of_events_are_those_of_the_configuration() -> None:
    rules = {"edge": 0.4, "shortest": {LABELS[0]: 1.5}, "transitions": {LABELS[1]: "cut"}}
    assert parse(JUDGED).events == EventRules()
    assert parse(JUDGED + with_events(json.dumps(rules))).events == EventRules.model_validate(rules)


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ("[]", "a JSON object"),
        ('{"egde": 0.4}', "a JSON object with some of thresholds, release, edge"),
        ('{"edge": 2}', "less than 1"),
        ('{"transitions": {"no label": "cut"}}', "naming"),
        (json.dumps({"transitions": {LABELS[0]: "wipe"}}), "'cut' or 'dissolve'"),
    ],
)
def test_rules_of_events_that_cannot_be_are_refused(rules: str, problem: str) -> None:
    with pytest.raises(ModelConfigError, match=problem):
        parse(JUDGED + with_events(rules))


def test_rules_of_events_need_thresholds() -> None:
    with pytest.raises(ModelConfigError, match="nothing without thresholds"):
        parse(TEXT + with_events("{}"))
