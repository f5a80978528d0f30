"""Pictures of wallpaper packages, parted by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.training.camera_motion.collect import collect


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    root = tmp_path / "usr" / "share"
    for name, size in (
        *((f"wallpapers/Waves/contents/images/{s}.jpg", s * 200) for s in (1024, 4096, 2048)),
        *((f"backgrounds/picture{i}-{variant}.png", 200_000) for i in range(40) for variant in "dl"),
        ("wallpapers/Waves/contents/screenshot.png", 900_000),
        ("backgrounds/thumbnail.png", 1000),
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0" * size)
    return tmp_path / "usr"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_each_picture_is_copied_once_at_its_largest(unpacked: Path, tmp_path: Path) -> None:
    train, held_out = collect(unpacked, tmp_path / "pictures")
    assert train + held_out == 81
    [waves] = (tmp_path / "pictures").rglob("Waves.jpg")
    assert waves.stat().st_size == 4096 * 200


def test_variants_of_a_picture_stay_on_one_side(unpacked: Path, tmp_path: Path) -> None:
    train, held_out = collect(unpacked, tmp_path / "pictures")
    assert train > held_out > 0
    for folder in (tmp_path / "pictures" / "train", tmp_path / "pictures" / "held_out"):
        dark = {name[:-6] for name in names(folder) if name.endswith("-d.png")}
        assert dark == {name[:-6] for name in names(folder) if name.endswith("-l.png")}
