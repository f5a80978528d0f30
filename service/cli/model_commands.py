"""`vidtr models`: the networks that can be built by name, and what each of them costs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

_GIB = 2**30

app = typer.Typer(help="List the networks that can be built by name, or show what one costs.")


@app.callback(invoke_without_command=True)
def models(context: typer.Context) -> None:
    """List the networks that can be built by name, or show what one costs."""
    if context.invoked_subcommand is None:
        list_models()


@app.command("list")
def list_models() -> None:
    """List the networks that can be built by name."""
    from service.model.cost import count_parameters
    from service.model.presets import PRESETS

    table = Table("name", "form", *(_right(title) for title in ("clip", "frame step", "parameters", "classes")))
    for name, preset in PRESETS.items():
        config = preset.config
        table.add_row(
            name,
            config.form,
            f"{config.frames} × {config.height} × {config.width}",
            str(preset.card.frame_step),
            f"{count_parameters(config):,}",
            str(config.classes),
        )
    Console().print(table)


@app.command("show")
def show_model(name: Annotated[str, typer.Argument(help="Name from the list.")]) -> None:
    """Show what one network costs for one clip in float32: parameters, tokens, operations, memory of training."""
    from service.model.cost import activation_bytes, measure, training_bytes
    from service.model.presets import PRESETS

    if name not in PRESETS:
        raise typer.BadParameter(f"no network {name!r}; there are {', '.join(PRESETS)}", param_hint="NAME")
    preset = PRESETS[name]
    config, cost = preset.config, measure(preset.config)
    reported = "-" if preset.reported_gflops is None else f"{preset.reported_gflops:g}"

    facts = Table("", _right(name), title="One clip", title_justify="left")
    facts.add_row("parameters", f"{cost.parameters:,}")
    facts.add_row("tokens per layer", tokens_per_layer(cost.tokens))
    facts.add_row("GFLOPs measured, every token computed", _figure(cost.training_flops / 1e9, 1))
    facts.add_row("GFLOPs measured, as it infers", _figure(cost.inference_flops / 1e9, 1))
    facts.add_row("GFLOPs reported by the authors", reported)

    memory = Table(
        "GiB", _right("materialised maps"), _right("fused attention"), title="Training step", title_justify="left"
    )
    for title, count, dropout in (
        ("activations, dropout off", activation_bytes, False),
        ("activations, dropout on", activation_bytes, True),
        ("total with weights, gradients, momentum", training_bytes, True),
    ):
        memory.add_row(
            title,
            _figure(count(config, "materialized", dropout=dropout) / _GIB, 2),
            _figure(count(config, "fused", dropout=dropout) / _GIB, 2),
        )
    console = Console()
    console.print(facts)
    console.print(memory)
    console.print("A multiply-add counts as two FLOPs. How the authors counted is not documented.", highlight=False)


def tokens_per_layer(tokens: Sequence[int]) -> str:
    """Tokens of each layer, layers counted from 0, one line for each run of equal numbers."""
    lines = []
    for count, run in groupby(enumerate(tokens), key=lambda item: item[1]):
        layers = [layer for layer, _ in run]
        lines.append(f"{layers[0]}-{layers[-1]}: {count}" if len(layers) > 1 else f"{layers[0]}: {count}")
    return "\n".join(lines)


def _figure(value: float, decimals: int) -> str:
    # Of a small network nothing but zeros would be left.
    return f"{value:.{decimals}f}" if value >= 0.1 else f"{value:.2g}"


def _right(title: str) -> Column:
    return Column(title, justify="right")
