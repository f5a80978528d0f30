"""`vidtr train` and `vidtr evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

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
    from service.training.loop import train as run
    from service.training.start import make_network, make_source

    settings = read_config(config, set_ or ())
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(settings.model_dump_json(indent=2) + "\n", encoding="utf-8")
    source = make_source(settings, _limits(), out / "clips")
    (out / "labels.json").write_text(json.dumps(source.labels), encoding="utf-8")
    loss = run(make_network(settings, len(source.labels)), source, settings, out)
    Console().print(f"last loss {loss:.6f}; weights are in {out / 'best.safetensors'}", highlight=False)


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run.", exists=True, file_okay=False)],
    windows: Annotated[int, typer.Option(min=1, help="Windows of each video.")] = 1,
    crops: Annotated[int, typer.Option(min=1, max=3, help="Spatial crops of each window: 1 or 3.")] = 1,
) -> None:
    """Evaluate the best weights of a run on its held-out data, and write report.html and figures.json beside them."""
    from service.model.weights.native import load_weights
    from service.training.config import TrainConfig
    from service.training.evaluate import evaluate as score
    from service.training.report import write_report
    from service.training.sources import Videos
    from service.training.start import make_network, make_source

    if crops == 2:
        raise typer.BadParameter("crops must be 1 or 3, not 2", param_hint="--crops")
    settings = TrainConfig.model_validate_json((run / "config.json").read_text(encoding="utf-8"))
    source = make_source(settings, _limits(), run / "clips")
    network = make_network(settings, len(source.labels)).eval()
    load_weights(network, run / "best.safetensors")
    examples = source.held_out(windows, crops) if isinstance(source, Videos) else source.held_out()
    result = score(network, examples, multi_label=source.multi_label)
    write_report(run / "report.html", run.name, source.labels, result, examples)
    (run / "figures.json").write_text(json.dumps(result.figures, indent=2) + "\n", encoding="utf-8")
    table = Table("figure", "value")
    for name, value in result.figures.items():
        table.add_row(name, f"{value:.4f}")
    Console().print(table)


def _limits() -> VideoLimits:
    from service.settings import Settings
    from service.video.config import VideoLimits

    return Settings().narrowed(VideoLimits)
