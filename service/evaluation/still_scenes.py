"""Gather scenes for the virtual camera out of videos: `python -m service.evaluation.still_scenes OUT.pt FOLDERS...`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from service.evaluation.shots import read_shots, stillness, video_files
from service.training.camera_motion.living import INTERVAL_S, Living, still_scenes

FRAMES = 8
_STILL, _EDGES = 0.6, 0.08


def gather(folders: Sequence[Path], shots_each: int = 4) -> Living:
    """Scenes of the shots, `shots_each` a video at most, whose camera stands still.

    Raises ValueError where there is none.
    """
    shots, rates = [], []
    for path in video_files(folders):
        for shot in read_shots(path, FRAMES * INTERVAL_S + 0.1, shots_each):
            still, edges = stillness(shot.frames)
            if still >= _STILL and edges >= _EDGES:
                shots.append(shot.frames)
                rates.append(shot.fps)
    if not shots:
        raise ValueError("no camera stands still in these videos")
    return still_scenes(shots, rates, FRAMES)


if __name__ == "__main__":
    out, *folders = map(Path, sys.argv[1:])
    found = gather(folders)
    found.save(out)
    sys.stdout.write(f"{len(found.frames)} scenes are in {out}\n")
