"""Entry point of `vidtr`: the commands and what they share. Rooms are imported inside the commands that need them,

so that `vidtr classify --server` runs where neither torch nor the server's dependencies are installed.
"""

from __future__ import annotations

import sys

import typer
from pydantic import ValidationError
from rich.console import Console

import service
from service.cli import (
    classify,
    dead,
    doctor,
    evaluation,
    explain,
    import_weights,
    keys,
    models,
    presets,
    processes,
    serving,
    training,
)
from service.errors import VidtrError

app = typer.Typer(
    name="vidtr",
    help="Video classification with temporal attention.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
app.command("up")(processes.up)
app.command("api")(processes.api)
app.command("worker")(processes.worker)
app.command("classify")(classify.classify)
app.command("doctor")(doctor.doctor)
app.command("explain")(explain.explain)
app.command("train")(training.train)
app.command("evaluate")(evaluation.evaluate)
app.command("footage")(evaluation.footage)
app.command("crossvalidate")(evaluation.crossvalidate)
app.command("export")(models.export)
app.command("import")(import_weights.import_weights)
app.add_typer(presets.app, name="models")
app.add_typer(dead.app, name="dead")
app.add_typer(keys.app, name="keys")
for command in (models.configure, serving.load, serving.unload, serving.reload, serving.served):
    presets.app.command()(command)
app.command("install-triton")(models.install_triton)


def _version(wanted: bool) -> None:
    if wanted:
        Console().print(f"vidtr {service.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", help="Print the version and exit.", callback=_version),
) -> None:
    """Video classification with temporal attention."""


def main() -> None:
    """Run the command line; an error of ours becomes one line on standard error and exit status 1."""
    try:
        app()
    except VidtrError as error:
        Console(stderr=True).print(f"[red]error[/red] {error.code}: {error.detail}", highlight=False)
        sys.exit(1)
    except ValidationError as error:
        for problem in error.errors():
            name = ".".join(str(part) for part in problem["loc"]) or "settings"
            Console(stderr=True).print(f"[red]error[/red] setting {name}: {problem['msg']}", highlight=False)
        sys.exit(2)
    except ModuleNotFoundError as error:
        extra = {
            "torch": "model",
            "redis": "worker",
            "fastapi": "api",
            "matplotlib": "report",
            "numpy": "api",
            "av": "api",
            "tritonclient": "worker",
            "opentelemetry": "tracing",
            "lightning_fabric": "train",
            "torchmetrics": "train",
            "tensorboardX": "train",
        }
        name = (error.name or "").partition(".")[0]
        if name not in extra:
            raise
        Console(stderr=True).print(
            f"[red]error[/red] this command needs {name}: pip install 'vidtr-serve\\[{extra[name]}]'", highlight=False
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
