import io
import os
import sys
from pathlib import Path

import pytest

from service.cli.inputs import Input, expand
from service.client import VideoUrl


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.mp4", "a.MKV", "notes.txt", ".hidden.mp4", "deep/er/c.webm", ".git/d.mp4", "odd[1].mp4"):
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "folder"


def names(*arguments: str, scratch: Path = Path("nowhere")) -> list[str]:
    return [video.name for video in expand(arguments, scratch, list)]


def test_a_folder_stands_for_the_videos_below_it(folder: Path) -> None:
    assert names("folder") == ["folder/a.MKV", "folder/b.mp4", "folder/deep/er/c.webm", "folder/odd[1].mp4"]


def test_a_pattern_stands_for_what_it_matches_at_any_depth(folder: Path) -> None:
    assert names("folder/**/*.webm", "folder/*.mp4") == ["folder/deep/er/c.webm", "folder/b.mp4", "folder/odd[1].mp4"]


def test_a_file_is_taken_whatever_its_name(folder: Path) -> None:
    assert names("folder/notes.txt", "folder/odd[1].mp4") == ["folder/notes.txt", "folder/odd[1].mp4"]


def test_a_file_that_is_meant_twice_is_taken_once(folder: Path) -> None:
    assert names("folder/b.mp4", "folder/./b.mp4", str(folder / "b.mp4")) == ["folder/b.mp4"]


def test_a_name_without_a_file_is_kept_to_be_reported(folder: Path) -> None:
    assert names("missing.mp4") == ["missing.mp4"]


def test_standard_input_is_copied_to_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a video")))
    [video] = expand(["-", "-"], tmp_path, list)
    assert isinstance(video.video, Path)
    assert (video.name, video.video.read_bytes()) == ("-", b"a video")


def test_a_name_that_is_no_text_is_written_as_text_and_two_such_names_stay_two(folder: Path) -> None:
    for name in (b"odd\xff.mp4", b"odd\xfe.mp4"):
        (folder / os.fsdecode(name)).touch()
    found = [name for name in names("folder") if "\\x" in name]
    assert found == ["folder/odd\\xfe.mp4", "folder/odd\\xff.mp4"]
    assert all(name.encode() for name in found)


def test_a_url_stands_for_itself_once(tmp_path: Path) -> None:
    url = "https://example.com/a film.mp4?signature=*"
    assert expand([url, url], tmp_path, list) == [Input(url, VideoUrl(url))]


@pytest.mark.parametrize("prefix", ["s3://films/2026/", "gs://films"])
def test_a_prefix_of_a_bucket_stands_for_the_videos_below_it(tmp_path: Path, prefix: str) -> None:
    asked = []

    def objects_below(url: str) -> list[str]:
        asked.append(url)
        return [f"{url}{name}" for name in ("/b.MP4", "/a.webm", "/a.json", "/folder.mp4/", "/mp4")]

    found = expand([prefix, "s3://films/2026/one"], tmp_path, objects_below)
    assert [video.name for video in found] == [f"{prefix}/a.webm", f"{prefix}/b.MP4", "s3://films/2026/one"]
    assert asked == [prefix]
