"""`vidtr explain`: why a video got its labels, as a page or a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.markup import escape

from service.aggregate import NOTHING_CLEAR
from service.cli.answers import Answer
from service.cli.classify_command import REFUSED, TRY_AGAIN, request_options
from service.cli.engines import EnvFile, Repository, Server, chosen_settings, engine
from service.errors import VidtrError

FORMATS = (".html", ".png")


def explain(
    file: Annotated[Path, typer.Argument(help="Video file.", exists=True, dir_okay=False, readable=True)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Report to write: .html or .png.", dir_okay=False)
    ] = Path("report.html"),
    server: Server = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="VIDTR_API_KEY", help="Key for that service; better given as VIDTR_API_KEY.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model to ask; the default model when absent.")] = None,
    top_k: Annotated[int, typer.Option(help="Labels of each window.")] = 5,
    windows: Annotated[str, typer.Option(help="Temporal windows: auto, all or a number.")] = "auto",
    causal: Annotated[
        bool,
        typer.Option("--causal", help="Also what each frame contributes to the first label, by Shapley values."),
    ] = False,
    where: Annotated[
        bool,
        typer.Option("--where", help="Also where in each kept frame the model looked, drawn over its picture."),
    ] = False,
    repository: Repository = None,
    env_file: EnvFile = None,
) -> None:
    """Draw what a model saw in a video: its frames, how much each counted, which were dropped, and the labels."""
    if output.suffix.lower() not in FORMATS:
        raise typer.BadParameter(f"a report is {' or '.join(FORMATS)}, not {output.name!r}", param_hint="--output")
    if causal and output.suffix.lower() != ".html":
        raise typer.BadParameter(f"--causal is part of a page (.html), not of {output.name!r}", param_hint="--output")
    options = request_options(
        model=model,
        top_k=top_k,
        windows=windows,
        attention="spatial" if where else "layers",
        evidence="causal" if causal else "none",
    )
    settings = chosen_settings(server, repository, env_file)
    from service.cli.attention_figure import draw, remark
    from service.cli.explain_page import page
    from service.cli.map_overlay import WHERE
    from service.cli.thumbnails import thumbnails

    log = Console(stderr=True)
    try:
        with log.status("looking at the video"), engine(server, api_key, 60.0, settings) as run:
            result = run.classify(file, options)
            served = run.model(result.model)
        faithfulness = served.faithfulness.in_words if served.faithfulness else ""
        with log.status("drawing"):
            pictures = thumbnails(file, served, result.video, options, settings)
            if output.suffix.lower() == ".png":
                labels = ", ".join(f"{p.label} {p.score:.3f}" for p in result.predictions[:3] if p.passes is not False)
                labels = NOTHING_CLEAR if result.abstained else labels
                title = f"{file.name}: {labels}"
                note = " ".join(filter(None, (faithfulness, remark(result.windows), WHERE if where else "")))
                output.write_bytes(draw(title, result.windows, pictures, "png", note=note))
            else:
                figures = [
                    draw("", [window], pictures[number : number + 1], "svg")
                    for number, window in enumerate(result.windows)
                ]
                output.write_text(
                    page(file.name, result, figures, faithfulness, WHERE if where else ""), encoding="utf-8"
                )
    except (VidtrError, httpx.TransportError) as error:
        failed = Answer.failed(str(file), error)
        problem = failed.problem or {}
        said = f"[red]error[/red] {escape(str(file))}: {problem['code']}: {escape(problem['detail'])}"
        log.print(said, highlight=False, soft_wrap=True)
        raise typer.Exit(TRY_AGAIN if failed.may_pass else REFUSED) from error
    Console().print(escape(str(output)), highlight=False, soft_wrap=True)
