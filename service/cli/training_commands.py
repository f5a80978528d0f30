"""`vidtr train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from service.video.config import VideoLimits


def train(
    config: Annotated[Path, typer.Argument(help="TOML file that describes the run.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option(help="Folder of the run; a run that is there already goes on.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Replace a field of the file: `data.fold=1`; may be repeated.")
    ] = None,
) -> None:
    """Train a network. Several processes: `torchrun --nproc_per_node 2 -m service.cli.main train CONFIG --out DIR`."""
    from service.training.config import read_config
    from service.training.data_source import make_source
    from service.training.start import make_network
    from service.training.trained_run import describe_run
    from service.training.training_loop import train as run

    settings = read_config(config, set_ or ())
    source = make_source(settings, _limits(), out / "clips")
    describe_run(out, settings, source.labels)
    loss = run(make_network(settings, len(source.labels)), source, settings, out)
    Console().print(f"last loss {loss:.6f}; weights are in {out / 'best.safetensors'}", highlight=False)


def _limits() -> VideoLimits:
    from service.settings import Settings
    from service.video.config import VideoLimits

    return Settings().subset(VideoLimits)
