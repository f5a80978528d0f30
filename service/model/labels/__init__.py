"""Class names of public data sets, one text file each: one name a line, in the order of the class indices."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

LABEL_SETS = ("hmdb51", "k400", "k600", "k700", "sthv2", "ucf101")
"""HMDB51, Kinetics-400, -600 and -700, Something-Something V2 and UCF101."""


def packaged_labels(name: str) -> tuple[str, ...]:
    """Class names of a data set by its name in LABEL_SETS.

    Raises ValueError for another name.
    """
    if name not in LABEL_SETS:
        raise ValueError(f"no labels {name!r} in the package; there are {', '.join(LABEL_SETS)}")
    return _parse((files(__name__) / f"{name}.txt").read_text(encoding="utf-8"), name)


def read_labels(source: str | Path) -> tuple[str, ...]:
    """Class names by the name of a packaged set or from a UTF-8 file of one name a line, in the order of the classes.

    A packaged name wins over a file of the same name; `./k400` is the file.

    Raises ValueError where `source` is neither, and where the file has an empty line, a repeated name or no name.
    """
    if str(source) in LABEL_SETS:
        return packaged_labels(str(source))
    path = Path(source)
    if not path.is_file():
        raise ValueError(f"labels {str(source)!r} are neither a file nor one of {', '.join(LABEL_SETS)}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"labels {path}: not UTF-8 text") from error
    return _parse(text, str(path))


def _parse(text: str, origin: str) -> tuple[str, ...]:
    names = [line.strip() for line in text.strip().splitlines()]
    seen: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        # Dropping an empty line would move every class behind it by one.
        if not name:
            raise ValueError(f"labels {origin}: line {number} is empty")
        if name in seen:
            raise ValueError(f"labels {origin}: line {number} repeats {name!r} of line {seen[name]}")
        seen[name] = number
    if not names:
        raise ValueError(f"labels {origin}: no names")
    return tuple(names)
