"""Entry point of `vidtr`: the commands and what they share. Packages are imported inside the commands that need them,

so that `vidtr classify --server` runs where neither torch nor the server's dependencies are installed.
"""

from __future__ import annotations

import io
import sys

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

import service
from service.cli import (
    api_key_commands,
    classify_command,
    dead_letter_commands,
    doctor_command,
    evaluation_commands,
    explain_command,
    export_commands,
    import_command,
    model_commands,
    process_commands,
    training_commands,
    triton_commands,
    up_command,
    verify_command,
)
from service.errors import VidtrError

app = typer.Typer(
    name="vidtr",
    help="Video classification with temporal attention.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
app.command("up")(up_command.up)
app.command("api")(process_commands.api)
app.command("worker")(process_commands.worker)
app.command("classify")(classify_command.classify)
app.command("doctor")(doctor_command.doctor)
app.command("explain")(explain_command.explain)
app.command("verify")(verify_command.verify)
app.command("train")(training_commands.train)
app.command("evaluate")(evaluation_commands.evaluate)
app.command("footage")(evaluation_commands.footage)
app.command("crossvalidate")(evaluation_commands.crossvalidate)
app.command("export")(export_commands.export)
app.command("import")(import_command.import_weights)
app.add_typer(model_commands.app, name="models")
app.add_typer(dead_letter_commands.app, name="dead")
app.add_typer(api_key_commands.app, name="keys")
for command in (
    export_commands.configure,
    triton_commands.load,
    triton_commands.unload,
    triton_commands.reload,
    triton_commands.served,
):
    model_commands.app.command()(command)
app.command("install-triton")(export_commands.install_triton)


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
    for stream in (sys.stdout, sys.stderr):
        # A terminal or a pipe may know fewer characters than the names of files have.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except VidtrError as error:
        Console(stderr=True).print(f"[red]error[/red] {error.code}: {escape(error.detail)}", highlight=False)
        sys.exit(1)
    except ValidationError as error:
        for problem in error.errors():
            name = ".".join(str(part) for part in problem["loc"]) or "settings"
            said = f"[red]error[/red] setting {name}: {escape(problem['msg'])}"
            Console(stderr=True).print(said, highlight=False, soft_wrap=True)
        sys.exit(2)
    except ModuleNotFoundError as error:
        extra = {
            "torch": "model",
            "redis": "worker",
            "fastapi": "api",
            "matplotlib": "report",
            "numpy": "api",
            "av": "api",
            "obstore": "buckets",
            "tritonclient": "worker",
            "opentelemetry": "tracing",
            "lightning_fabric": "train",
            "torchmetrics": "train",
            "tensorboardX": "train",
            "onnx": "onnx",
            "transformers": "transformers",
            "cryptography": "signatures",
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
