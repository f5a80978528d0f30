"""How Triton serves a model: what the options write, and what of it survives the next export."""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from typer.testing import CliRunner

from service.cli.main import app
from service.model.model_export import export_model
from service.model.repository_entry import configure_model
from service.model.triton_options import TritonOptions, read_block, with_block
from tests.unit.model.networks import tiny_network
from tests.unit.model.test_triton_config import card

EVERYTHING = TritonOptions(
    instances=3,
    kind="gpu",
    gpus=(0, 2),
    queue_size=5,
    queue_timeout_ms=250,
    batch_delay_ms=1.5,
    preferred_batches=(2, 4),
    threads=2,
    versions="1,3",
)


def parse(text: str) -> Any:
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def config(folder: Path) -> Any:
    return parse((folder / "config.pbtxt").read_text())


def export(directory: Path, version: int = 1, serving: TritonOptions | None = None) -> Path:
    return export_model(tiny_network(), directory, name="tiny", version=version, card=card(), serving=serving)


def test_every_option_reaches_the_configuration(tmp_path: Path) -> None:
    written = config(export(tmp_path, serving=EVERYTHING))
    (group,) = written.instance_group
    batching, policy = written.dynamic_batching, written.dynamic_batching.default_queue_policy
    assert (group.kind, group.count, list(group.gpus)) == (model_config_pb2.ModelInstanceGroup.KIND_GPU, 3, [0, 2])
    assert (policy.max_queue_size, policy.default_timeout_microseconds) == (5, 250_000)
    assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
    assert (batching.max_queue_delay_microseconds, list(batching.preferred_batch_size)) == (1500, [2, 4])
    assert written.parameters["INTRA_OP_THREAD_COUNT"].string_value == "2"
    assert list(written.version_policy.specific.versions) == [1, 3]


@pytest.mark.parametrize(("versions", "choice"), [("all", "all"), ("latest:4", "latest"), ("7", "specific")])
def test_each_way_to_say_which_versions_are_served_is_written(versions: str, choice: str) -> None:
    policy = parse(TritonOptions(versions=versions).block(8)).version_policy
    assert policy.WhichOneof("policy_choice") == choice


def test_a_new_version_keeps_how_the_model_is_served(tmp_path: Path) -> None:
    block = read_block((export(tmp_path, serving=EVERYTHING) / "config.pbtxt").read_text())
    assert read_block((export(tmp_path, version=2) / "config.pbtxt").read_text()) == block


def test_what_an_operator_wrote_by_hand_survives_the_next_export(tmp_path: Path) -> None:
    path = export(tmp_path) / "config.pbtxt"
    path.write_text(path.read_text().replace("max_queue_size: 64", "max_queue_size: 7  # measured"))
    export(tmp_path, version=2)
    assert "max_queue_size: 7  # measured" in path.read_text()


def test_a_new_version_may_be_served_in_another_way(tmp_path: Path) -> None:
    export(tmp_path)
    assert config(export(tmp_path, version=2, serving=TritonOptions(instances=2))).instance_group[0].count == 2


def test_configuring_changes_nothing_else(tmp_path: Path) -> None:
    path = export(tmp_path) / "config.pbtxt"
    before = path.read_text()
    configure_model(tmp_path, name="tiny", serving=EVERYTHING)
    assert path.read_text() != before
    assert with_block(path.read_text(), TritonOptions().block(6)) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"instances": 0}, "instances must be at least 1, not 0"),
        ({"queue_size": -1}, "queue_size must be at least 0, not -1"),
        ({"queue_timeout_ms": -5}, "queue_timeout_ms must be at least 0, not -5"),
        ({"batch_delay_ms": -0.5}, "batch_delay_ms must be at least 0, not -0.5"),
        ({"threads": 0}, "threads must be at least 1, not 0"),
        ({"kind": "cpu", "gpus": (0,)}, "gpus cannot be given for instances on the CPU"),
        ({"gpus": (1, 1)}, "gpus must be numbers, each once, not 1, 1"),
        ({"preferred_batches": (0,)}, "preferred_batches must be numbers, each once, not 0"),
        ({"versions": "newest"}, "versions must be latest:N, all or numbers"),
        ({"versions": "latest:0"}, "versions must be latest:N, all or numbers"),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TritonOptions(**changes)


def test_a_preferred_batch_beyond_the_largest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"preferred_batches must be at most 6, the largest batch, not \[8\]"):
        export(tmp_path, serving=TritonOptions(preferred_batches=(4, 8)))
    assert not (tmp_path / "tiny").exists()


def run(*arguments: str) -> Any:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)


def test_the_command_line_says_how_an_exported_model_is_served(tmp_path: Path) -> None:
    options = ("--instances", "2", "--instance-kind", "cpu", "--preferred-batches", "2,4", "--versions", "all")
    done = run("export", "untrained_tiny", "--repository", str(tmp_path), *options)
    assert done.exit_code == 0, done.output
    written = config(tmp_path / "untrained_tiny")
    assert written.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_CPU
    assert written.instance_group[0].count == 2
    assert list(written.dynamic_batching.preferred_batch_size) == [2, 4]
    assert written.version_policy.WhichOneof("policy_choice") == "all"


def test_an_export_for_a_gpu_has_the_defaults_of_one(tmp_path: Path) -> None:
    done = run("export", "untrained_tiny", "--repository", str(tmp_path), "--device", "gpu")
    assert done.exit_code == 0, done.output
    written = config(tmp_path / "untrained_tiny")
    [group] = written.instance_group
    assert (group.kind, group.count) == (model_config_pb2.ModelInstanceGroup.KIND_GPU, 2)
    assert written.max_batch_size == 32
    assert written.dynamic_batching.max_queue_delay_microseconds == 2000
    assert written.parameters["precision"].string_value == "bf16"


def test_what_is_said_counts_more_than_the_defaults_of_a_gpu(tmp_path: Path) -> None:
    said = ("--precision", "fp32", "--max-batch-size", "16", "--instances", "1", "--batch-delay-ms", "0", "--gpus", "1")
    done = run("export", "untrained_tiny", "--repository", str(tmp_path), "--device", "gpu", *said)
    assert done.exit_code == 0, done.output
    written = config(tmp_path / "untrained_tiny")
    [group] = written.instance_group
    assert (group.kind, group.count) == (model_config_pb2.ModelInstanceGroup.KIND_GPU, 1)
    assert list(group.gpus) == [1]
    assert (written.max_batch_size, written.dynamic_batching.max_queue_delay_microseconds) == (16, 0)
    assert written.parameters["precision"].string_value == "fp32"


def test_an_export_for_a_gpu_cannot_be_one_for_the_cpu(tmp_path: Path) -> None:
    done = run("export", "untrained_tiny", "--repository", str(tmp_path), "--device", "gpu", "--instance-kind", "cpu")
    assert done.exit_code == 2
    assert "--device gpu cannot have --instance-kind cpu" in done.output


def test_a_model_that_is_there_can_be_configured_for_a_gpu(tmp_path: Path) -> None:
    folder = export(tmp_path)
    done = run("models", "configure", "tiny", "--repository", str(tmp_path), "--device", "gpu")
    assert done.exit_code == 0, done.output
    [group] = config(folder).instance_group
    assert (group.kind, group.count) == (model_config_pb2.ModelInstanceGroup.KIND_GPU, 2)


def test_the_command_line_configures_a_model_anew(tmp_path: Path) -> None:
    folder = export(tmp_path, serving=EVERYTHING)
    done = run("models", "configure", "tiny", "--repository", str(tmp_path), "--gpus", "1", "--threads", "4")
    assert done.exit_code == 0, done.output
    written = config(folder)
    assert list(written.instance_group[0].gpus) == [1]
    assert written.instance_group[0].count == 1
    assert written.parameters["INTRA_OP_THREAD_COUNT"].string_value == "4"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--gpus", "zero"), "--gpus must be numbers separated by commas, not 'zero'"),
        (("--instance-kind", "tpu"), "--instance-kind must be auto, cpu or gpu, not 'tpu'"),
        (("--preferred-batches", "64"), "preferred_batches must be at most 6"),
    ],
)
def test_the_command_line_names_the_option_that_cannot_work(
    tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    export(tmp_path)
    done = run("models", "configure", "tiny", "--repository", str(tmp_path), *options)
    assert done.exit_code == 2
    assert message in done.output


def test_a_model_that_is_not_there_cannot_be_configured(tmp_path: Path) -> None:
    assert run("models", "configure", "absent", "--repository", str(tmp_path)).exit_code == 2


def test_a_comment_of_an_operator_is_no_other_configuration(tmp_path: Path) -> None:
    path = export(tmp_path) / "config.pbtxt"
    path.write_text("# served in the second hall\n" + path.read_text().replace(": [ ", ": ["))
    assert export(tmp_path, version=2).is_dir()


def test_a_model_is_configured_however_its_file_is_spaced(tmp_path: Path) -> None:
    path = export(tmp_path) / "config.pbtxt"
    path.write_text(path.read_text().replace("max_batch_size: 6", "max_batch_size:6"))
    configure_model(tmp_path, name="tiny", serving=TritonOptions(instances=2))
    assert config(path.parent).instance_group[0].count == 2
