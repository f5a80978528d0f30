"""Pictures for the generator out of unpacked packages of wallpapers, parted into those to train and to evaluate on.

`python -m service.training.camera_motion.collect UNPACKED PICTURES`
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from pathlib import Path

from service.training.camera_motion.textures import picture_files

_HELD_OUT_SHARE = 6
_VARIANT = re.compile("-no-logo|-d|-l")


def collect(unpacked: Path, pictures: Path) -> tuple[int, int]:
    """Copy one file of each picture below `unpacked`, the largest, to `pictures/train` or `pictures/held_out`.

    A hash of the picture's name decides, so that a picture and its dark or light variant stay on one side. Returns how
    many went to each.
    """
    largest: dict[str, Path] = {}
    for path in picture_files(unpacked):
        # Plasma keeps the sizes of one picture in a folder `contents`, below its name.
        name = path.parts[-4] if "contents" in path.parts else path.stem
        if "screenshot" not in str(path) and (
            name not in largest or path.stat().st_size > largest[name].stat().st_size
        ):
            largest[name] = path
    counts = {"train": 0, "held_out": 0}
    for name, path in largest.items():
        digest = hashlib.sha256(_VARIANT.split(name)[0].encode()).hexdigest()
        side = "train" if int(digest, 16) % _HELD_OUT_SHARE else "held_out"
        target = pictures / side / (name + path.suffix)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        counts[side] += 1
    return counts["train"], counts["held_out"]


if __name__ == "__main__":
    sys.stdout.write("{} pictures to train on, {} held out\n".format(*collect(Path(sys.argv[1]), Path(sys.argv[2]))))
