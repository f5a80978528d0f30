"""Annotation layouts of public data sets."""

from __future__ import annotations

import json
from pathlib import Path

from service.training.samples import (
    Sample,
    deal_folds,
    read_charades,
    read_csv,
    read_folder,
    read_hmdb51,
    read_kinetics,
    read_something_something,
    read_ucf101,
)


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_a_folder_names_the_class(tmp_path: Path) -> None:
    video = touch(tmp_path / "wave" / "a.mp4")
    touch(tmp_path / "wave" / "notes.txt")
    assert read_folder(tmp_path, None) == [Sample(video, ("wave",), str(video))]


def test_a_table_may_give_groups(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("file,label,source_group\na.mp4,fight,g1\n")
    assert read_csv(tmp_path, table) == [Sample(tmp_path / "a.mp4", ("fight",), "g1")]


def test_kinetics_files_are_named_by_id_and_seconds(tmp_path: Path) -> None:
    video = touch(tmp_path / "abseiling" / "abc_000010_000020.mkv")
    table = tmp_path / "val.csv"
    table.write_text("label,youtube_id,time_start,time_end,split\nabseiling,abc,10,20,val\n")
    assert read_kinetics(tmp_path, table) == [Sample(video, ("abseiling",), "abc")]


def test_something_something_templates_lose_their_brackets(tmp_path: Path) -> None:
    video = touch(tmp_path / "74225.webm")
    table = tmp_path / "train.json"
    table.write_text(json.dumps([{"id": "74225", "template": "Putting [something] down"}]))
    assert read_something_something(tmp_path, table) == [Sample(video, ("Putting something down",), "74225")]


def test_ucf101_lists_give_class_and_group(tmp_path: Path) -> None:
    table = tmp_path / "trainlist01.txt"
    table.write_text("ApplyLipstick/v_ApplyLipstick_g08_c01.avi 2\n")
    path = tmp_path / "ApplyLipstick" / "v_ApplyLipstick_g08_c01.avi"
    assert read_ucf101(tmp_path, table) == [Sample(path, ("ApplyLipstick",), "ApplyLipstick_g08")]


def test_hmdb51_splits_mark_training_and_test(tmp_path: Path) -> None:
    (tmp_path / "wave_test_split1.txt").write_text("a.avi 1 \nb.avi 2 \nc.avi 0 \n")
    assert [s.path.name for s in read_hmdb51(tmp_path, tmp_path)] == ["a.avi"]
    assert [s.path.name for s in read_hmdb51(tmp_path, Path(f"{tmp_path}:test"))] == ["b.avi"]


def test_charades_videos_have_several_labels(tmp_path: Path) -> None:
    table = tmp_path / "charades.csv"
    table.write_text('id,subject,actions\nABC,S1,"c092 11.9 21.2;c147 0.0 12.6;c092 1.0 2.0"\n')
    assert read_charades(tmp_path, table) == [Sample(tmp_path / "ABC.mp4", ("c092", "c147"), "S1")]


def test_folds_never_split_a_group() -> None:
    samples = [Sample(Path(f"{i}.mp4"), ("x",), f"g{i % 7}") for i in range(50)]
    folds = deal_folds(samples, 3)
    assert all(len({f for f, s in zip(folds, samples, strict=True) if s.group == f"g{g}"}) == 1 for g in range(7))


def test_folds_are_of_similar_size() -> None:
    folds = deal_folds([Sample(Path(f"{i}.mp4"), ("x",), str(i)) for i in range(50)], 5)
    assert [folds.count(i) for i in range(5)] == [10] * 5
