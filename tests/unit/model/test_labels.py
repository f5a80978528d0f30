"""Class names that come with the package, and those of a file."""

from pathlib import Path

import pytest

from service.model.labels import LABEL_SETS, packaged_labels, read_labels

SIZES = {"hmdb51": 51, "k400": 400, "k600": 600, "k700": 700, "sthv2": 174, "ucf101": 101}


def test_the_sets_are_those_of_the_files() -> None:
    import service.model.labels as package

    assert {path.stem for path in Path(package.__file__).parent.glob("*.txt")} == set(LABEL_SETS) == set(SIZES)


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_a_packaged_set_has_its_number_of_distinct_names(name: str, size: int) -> None:
    assert len(set(packaged_labels(name))) == len(packaged_labels(name)) == size


@pytest.mark.parametrize(
    ("name", "index", "label"),
    [
        ("k400", 0, "abseiling"),
        ("k400", 5, "archery"),
        ("k400", 399, "zumba"),
        ("k700", 1, "acting in play"),
        ("ucf101", 100, "YoYo"),
        ("hmdb51", 0, "brush_hair"),
        ("sthv2", 0, "Approaching something with your camera"),
    ],
)
def test_a_class_has_the_index_of_its_data_set(name: str, index: int, label: str) -> None:
    assert packaged_labels(name)[index] == label


def test_a_set_that_is_not_packaged_is_refused_with_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"no labels 'k500' in the package; there are hmdb51, k400, "):
        packaged_labels("k500")


def test_a_file_gives_its_lines_in_order(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes("\ufeffzebra\r\naardvark crossing \r\nöre\r\n".encode())
    assert read_labels(tmp_path / "names.txt") == ("zebra", "aardvark crossing", "öre")


def test_a_packaged_name_is_read_from_the_package() -> None:
    assert read_labels("k400") == packaged_labels("k400")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\n\nb\n", "line 2 is empty"),
        (b"a\nb\na\n", "line 3 repeats 'a' of line 1"),
        (b"", "no names"),
        (b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_a_file_that_would_number_classes_wrongly_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_labels(tmp_path / "names.txt")


def test_labels_that_are_neither_file_nor_packaged_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither a file nor one of hmdb51"):
        read_labels(tmp_path / "missing.txt")
