"""Clips whose file another process may still change."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.errors import DecoderCrash
from service.video.held_clips import HeldClips

# A full run (`make test-full`) sets how often.
RACES = int(os.environ.get("VIDTR_TRUNCATIONS", "1000"))
SIZE = 1 << 20


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    (tmp_path / "clips").write_bytes(os.urandom(SIZE))
    return tmp_path / "clips"


def test_a_slice_is_read_where_it_lies(clips: Path) -> None:
    expected = clips.read_bytes()
    with HeldClips(clips, SIZE) as held:
        assert len(held) == SIZE
        assert held[1000:5000] == expected[1000:5000]
        assert held[SIZE - 3 : SIZE + 10] == expected[-3:]


def test_a_piece_does_not_change_with_the_file(clips: Path) -> None:
    with HeldClips(clips, SIZE) as held:
        piece = held[:SIZE]
        before = bytes(piece)
        clips.write_bytes(bytes(SIZE))
        assert piece == before


def test_a_file_that_has_become_shorter_fails_its_upload(clips: Path) -> None:
    with HeldClips(clips, SIZE) as held:
        os.truncate(clips, SIZE // 2)
        assert len(held[: SIZE // 2]) == SIZE // 2
        with pytest.raises(DecoderCrash):
            held[:SIZE]


@pytest.fixture
def truncated(clips: Path) -> Iterator[threading.Event]:
    """The file shrinks and grows as fast as it can; the event is set once it has begun."""
    began, done = threading.Event(), threading.Event()

    def cut() -> None:
        descriptor = os.open(clips, os.O_RDWR)
        while not done.is_set():
            os.ftruncate(descriptor, 0)
            began.set()
            os.ftruncate(descriptor, SIZE)
        os.close(descriptor)

    thread = threading.Thread(target=cut)
    thread.start()
    yield began
    done.set()
    thread.join()


def test_a_file_that_shrinks_while_it_is_read_ends_nobody(clips: Path, truncated: threading.Event) -> None:
    truncated.wait()
    outcomes = {"whole": 0, "short": 0}
    with HeldClips(clips, SIZE) as held:
        for _ in range(RACES):
            try:
                assert len(held[:SIZE]) == SIZE
                outcomes["whole"] += 1
            except DecoderCrash:
                outcomes["short"] += 1
    assert sum(outcomes.values()) == RACES
