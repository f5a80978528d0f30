"""A set of footage: made through real encoders, decoded by the video package."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from service.contracts import ClipSpec
from service.evaluation.decoded import RealTestSet, decode_real_test_set
from service.evaluation.real_test_set import Entry, RealTestSetConfig, build_real_test_set, read_real_test_set
from service.model.presets import CAMERA_MOTION_LABELS as LABELS
from service.settings import Settings
from service.training.config import TrainConfig
from service.training.start import clip_spec
from service.video.config import VideoLimits
from tests.unit.evaluation.scenes import write_still

EACH = 7


def silent(what: str, done: int, total: int) -> None:
    pass


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("footage")
    for seed in range(3):
        write_still(folder / "sources" / f"{seed}.mp4", seed, frames=14, fps=10)
    write_still(folder / "sources" / "moving.mp4", 9, frames=14, fps=10, panned=5)
    build_real_test_set([folder / "sources"], folder / "set", RealTestSetConfig(each=EACH), silent)
    return folder / "set"


@pytest.fixture(scope="module")
def spec() -> ClipSpec:
    network = {"height": 32, "width": 32, "frames": 8, "patch": 8, "depth": 1, "heads": 1, "dim": 8, "mlp_dim": 8}
    data = {"kind": "folder", "videos": "none"}
    return clip_spec(TrainConfig.model_validate({"network": network, "data": data, "recipe": {"steps": 1}}))


@pytest.fixture(scope="module")
def footage(made: Path, spec: ClipSpec) -> RealTestSet:
    return decode_real_test_set(made, spec, Settings().subset(VideoLimits), silent)


def cropped(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if not entry.unaltered]


def test_every_class_gets_its_clips(made: Path) -> None:
    labels = [entry.label for entry in cropped(read_real_test_set(made))]
    assert {label: labels.count(label) for label in LABELS} == dict.fromkeys(LABELS, EACH)


def test_a_moving_camera_is_no_source(made: Path) -> None:
    assert {Path(entry.source).name for entry in read_real_test_set(made)} == {"0.mp4", "1.mp4", "2.mp4"}


def test_unaltered_videos_are_the_bytes_of_their_sources(made: Path) -> None:
    still = [entry for entry in read_real_test_set(made) if entry.unaltered]
    assert still
    assert all((made / entry.file).read_bytes() == Path(entry.source).read_bytes() for entry in still)


def test_equal_seeds_make_equal_tables(made: Path, tmp_path: Path) -> None:
    sources = [made.parent / "sources"]
    one, other = (
        build_real_test_set(sources, tmp_path / name, RealTestSetConfig(each=1), silent) for name in ("one", "other")
    )
    assert one == other == read_real_test_set(tmp_path / "one")


def test_clips_are_as_the_model_wants_them(footage: RealTestSet, spec: ClipSpec) -> None:
    assert footage.clips.shape[1:] == spec.clip_shape
    assert footage.clips.dtype == torch.uint8


def test_cuts_fall_between_all_pairs_of_slots(footage: RealTestSet) -> None:
    cuts = footage.part(lambda entry: entry.label == "cut").cut
    assert sorted(cuts.tolist()) == list(range(7))


def test_the_picture_changes_most_at_the_cut(footage: RealTestSet) -> None:
    cuts = footage.part(lambda entry: entry.label == "cut")
    change = cuts.clips.float().diff(dim=1).abs().mean(dim=(2, 3, 4))
    assert torch.equal(change.argmax(1), cuts.cut)


def test_still_clips_hardly_change(footage: RealTestSet) -> None:
    still = footage.part(lambda entry: entry.label == "static")
    assert float(still.clips.float().diff(dim=1).abs().mean()) < 12


def test_a_second_look_needs_no_decoding(made: Path, footage: RealTestSet, spec: ClipSpec, tmp_path: Path) -> None:
    def refuse(what: str, done: int, total: int) -> None:
        raise AssertionError(what)

    again = decode_real_test_set(made, spec, Settings().subset(VideoLimits), refuse)
    assert torch.equal(again.clips, footage.clips)


def test_sources_without_a_still_camera_are_refused(made: Path, tmp_path: Path) -> None:
    write_still(tmp_path / "in" / "moving.mp4", 9, panned=2)
    with pytest.raises(ValueError, match="0 still shots in 1 videos"):
        build_real_test_set([tmp_path / "in"], tmp_path / "out", RealTestSetConfig(each=1), silent)
