"""CPU seconds that decoding one clip takes on one thread, for the plan of a GPU host's cores.

A clip of C-VidTr-S has 8 frames out of 64; its pictures come out with 256 pixels on the short side. One clip a video is
the middle of it, ten are spread over all of it. The best of some rounds counts, in CPU seconds: other work on the
machine only adds to them.

    python -m benchmarks.decode_cost [--videos FOLDER] [--rounds N]      # writes benchmarks/decode_cost.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import record
from benchmarks.decode import cell_of, ours
from benchmarks.decode_videos import KINDS, video

RECORDED = Path(__file__).with_name("decode_cost.json")
VIDEOS = ("10 s 340p, groups of 12", "10 s 1080p, groups of 250")
CLIPS = (1, 10)


def measured(path: Path, kind: str, clips: int, rounds: int) -> dict[str, Any]:
    """The best CPU seconds of a clip, where `clips` are taken out of this video in one pass."""
    cell = cell_of(kind, path, True, clips)
    seconds = []
    for _ in range(rounds):
        began = time.process_time()
        ours(cell)
        seconds.append(time.process_time() - began)
    return {"video": kind, "clips": clips, "cpu_s": min(seconds) / clips}


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, help="folder that keeps the generated videos; a temporary one if unset")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    began = record.machine()
    with tempfile.TemporaryDirectory(prefix="vidtr-bench-") as scratch:
        folder = options.videos or Path(scratch)
        assert set(VIDEOS) <= set(KINDS)
        rows = [measured(video(folder, kind, True), kind, clips, options.rounds) for kind in VIDEOS for clips in CLIPS]
    found = {"machine": began, "versions": record.versions(), "decode": rows}
    RECORDED.write_text(json.dumps(found, indent=2) + "\n")
    for row in rows:
        print(f"{row['video']}, {row['clips']} clips: {1000 * row['cpu_s']:.1f} ms of CPU a clip")


if __name__ == "__main__":
    main()
