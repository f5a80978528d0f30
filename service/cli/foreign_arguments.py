"""The options of `vidtr import` that describe a network of another library, gathered for its description."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from service.cli.gathered_options import takes_options
from service.contracts import Activation, Framing, Resize

Layout = Literal["NCTHW", "NTCHW", "NTHWC"]
_FOREIGN: dict[str, Any] = {
    "card": Annotated[
        Path | None, typer.Option(help="TOML file with what the options below say.", exists=True, dir_okay=False)
    ],
    "frames": Annotated[int | None, typer.Option(help="Frames of a clip.")],
    "frame_step": Annotated[int | None, typer.Option(help="Distance of frames, in frames of --fps: 4 by default.")],
    "fps": Annotated[float | None, typer.Option(help="Rate that --frame-step refers to: 30 by default.")],
    "size": Annotated[str | None, typer.Option(help="Pictures of a clip in pixels: SIDE or HEIGHTxWIDTH.")],
    "short_side": Annotated[
        int | None, typer.Option(help="Short side before pictures are cropped: that of --size by default.")
    ],
    "framing": Annotated[Framing | None, typer.Option(help="What is seen: crop, or whole, squeezed to --size.")],
    "resize": Annotated[Resize | None, typer.Option(help="How pictures are scaled: swscale_bilinear by default.")],
    "layout": Annotated[Layout | None, typer.Option(help="Order of a batch's axes: NCTHW by default.")],
    "dtype": Annotated[
        Literal["float32", "uint8"] | None, typer.Option(help="Numbers that the network takes: float32 by default.")
    ],
    "scale": Annotated[float | None, typer.Option(help="What values are divided by first: 255 by default.")],
    "mean": Annotated[str | None, typer.Option(help="Three numbers that are then subtracted: 0,0,0 by default.")],
    "std": Annotated[str | None, typer.Option(help="Three numbers that it is divided by at last: 1,1,1 by default.")],
    "activation": Annotated[Activation | None, typer.Option(help="Scores of logits: softmax by default, or sigmoid.")],
    "logits": Annotated[str | None, typer.Option(help="Output with the logits, number or name: 0 by default.")],
    "embedding": Annotated[str | None, typer.Option(help="Output with an embedding of the clip; none by default.")],
    "description": Annotated[str | None, typer.Option(help="What the model is, for its users.")],
    "max_batch_size": Annotated[int | None, typer.Option(help="Clips in one pass at most: 8 by default.")],
    "untrained": Annotated[
        bool | None, typer.Option("--untrained", help="Say in each answer that its weights are random.")
    ],
}


def takes_foreign_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a description; it gets those that were given, by name, as its argument `foreign`.

    A value that cannot be read ends the command with a usage error.
    """
    return takes_options(command, _FOREIGN, lambda given: {"foreign": _values(given)}, ["foreign"])


def _values(options: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in options.items() if value is not None}
    if given.pop("untrained", False):
        given["trained"] = False
    for name in given.keys() & {"mean", "std"}:
        try:
            given[name] = [float(part) for part in given[name].split(",")]
        except ValueError:
            said = f"must be three numbers separated by commas, not {given[name]!r}"
            raise typer.BadParameter(said, param_hint=f"--{name}") from None
    for name in given.keys() & {"logits", "embedding"}:
        given[name] = int(given[name]) if given[name].isdecimal() else given[name]
    return given
