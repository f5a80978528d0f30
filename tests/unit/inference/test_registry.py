from pathlib import Path

import pytest

from service.inference.registry import scan_repository
from service.model_config import ModelConfigError
from tests.fixtures.tiny_models import write_repository


def served(root: Path) -> list[tuple[str, str]]:
    return [(file.spec.name, file.spec.version) for file in scan_repository(root)]


def test_a_model_file_is_found_with_its_spec(tmp_path: Path) -> None:
    (file,) = scan_repository(write_repository(tmp_path))

    assert file.path == tmp_path / "tiny" / "1" / "model.pt"
    assert file.spec.name == "tiny"


def test_without_a_policy_only_the_newest_version_is_served(tmp_path: Path) -> None:
    assert served(write_repository(tmp_path, versions=("9", "10"))) == [("tiny", "10")]


@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        ("latest { num_versions: 2 }", ["2", "10"]),
        ("latest { num_versions: 9 }", ["1", "2", "10"]),
        ("all { }", ["1", "2", "10"]),
        ("specific { versions: [10, 1] }", ["1", "10"]),
    ],
)
def test_the_version_policy_chooses_the_versions(tmp_path: Path, policy: str, versions: list[str]) -> None:
    write_repository(tmp_path, versions=("1", "2", "10"), extra=f"version_policy {{ {policy} }}")

    assert served(tmp_path) == [("tiny", version) for version in versions]


def test_a_specific_version_that_does_not_exist_is_reported(tmp_path: Path) -> None:
    write_repository(tmp_path, extra="version_policy { specific { versions: [1, 7] } }")

    with pytest.raises(ModelConfigError, match=r"versions \[7\]"):
        scan_repository(tmp_path)


def test_models_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    write_repository(tmp_path, "zebra")
    write_repository(tmp_path, "ant")

    assert served(tmp_path) == [("ant", "1"), ("zebra", "1")]


def test_folders_that_are_no_versions_are_ignored(tmp_path: Path) -> None:
    write_repository(tmp_path)
    for name in ("02", "0", "next", "3.bak"):
        (tmp_path / "tiny" / name).mkdir()
    (tmp_path / "tiny" / "4").write_text("a file")

    assert served(tmp_path) == [("tiny", "1")]


def test_files_and_hidden_folders_beside_the_models_are_ignored(tmp_path: Path) -> None:
    write_repository(tmp_path)
    (tmp_path / "README.md").write_text("models")
    (tmp_path / ".cache").mkdir()

    assert served(tmp_path) == [("tiny", "1")]


def test_another_file_name_may_be_configured(tmp_path: Path) -> None:
    write_repository(tmp_path, extra='default_model_filename: "weights.pt"')
    (tmp_path / "tiny" / "1" / "model.pt").rename(tmp_path / "tiny" / "1" / "weights.pt")

    assert served(tmp_path) == [("tiny", "1")]


def test_an_empty_repository_serves_nothing(tmp_path: Path) -> None:
    assert scan_repository(tmp_path) == []


def test_a_repository_that_does_not_exist_is_reported(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match="no model repository"):
        scan_repository(tmp_path / "nowhere")


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(ModelConfigError, match="model 'empty'"):
        scan_repository(tmp_path)


def test_a_model_without_any_version_is_refused(tmp_path: Path) -> None:
    write_repository(tmp_path, versions=())

    with pytest.raises(ModelConfigError, match=r"version folders is \[\]"):
        scan_repository(tmp_path)


def test_weights_other_than_the_configured_ones_are_refused(tmp_path: Path) -> None:
    write_repository(tmp_path)
    with (tmp_path / "tiny" / "1" / "model.pt").open("ab") as file:
        file.write(b"\0")

    with pytest.raises(ModelConfigError, match=r"SHA-256 of 1/model\.pt"):
        scan_repository(tmp_path)


def test_a_version_without_its_file_is_refused(tmp_path: Path) -> None:
    write_repository(tmp_path)
    (tmp_path / "tiny" / "1" / "model.pt").unlink()

    with pytest.raises(ModelConfigError, match=r"file 1/model\.pt is No such file"):
        scan_repository(tmp_path)


def test_a_model_for_another_engine_is_refused(tmp_path: Path) -> None:
    write_repository(tmp_path)
    config = tmp_path / "tiny" / "config.pbtxt"
    config.write_text(config.read_text().replace('backend: "pytorch"', 'backend: "tensorrt"'))

    with pytest.raises(ModelConfigError, match="'tensorrt', expected 'pytorch' or 'onnxruntime'"):
        scan_repository(tmp_path)
