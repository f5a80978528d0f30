"""`vidtr evaluate`, `vidtr footage` and `vidtr crossvalidate`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from service.evaluation.candidates import Candidate, Score
    from service.training.config import GeneratedData, TrainConfig
    from service.training.sources import Examples
    from service.video.config import VideoLimits

Tell = Callable[[str, int, int], None]


def footage(
    sources: Annotated[
        list[Path], typer.Argument(help="Folders of real videos, some of still cameras.", exists=True, file_okay=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder of the test set.")],
    each: Annotated[int, typer.Option(min=1, help="Clips of each class.")] = 60,
    seed: Annotated[int, typer.Option(help="Equal seeds choose equal shots and paths.")] = 0,
) -> None:
    """Make a test set out of real videos: windows moved along known camera paths over shots of still cameras."""
    import torch

    from service.evaluation.real_test_set import RealTestSetConfig, build_real_test_set

    torch.set_num_threads(1)  # frames of a small window gain nothing from more
    try:
        with _progress() as tell:
            entries = build_real_test_set(sources, out, RealTestSetConfig(each=each, seed=seed), tell)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="SOURCES") from error
    still = sum(entry.unaltered for entry in entries)
    Console().print(
        f"{len(entries) - still} clips and {still} windows of unaltered still videos are in {out}", highlight=False
    )


def evaluate(
    target: Annotated[
        Path, typer.Argument(help="Folder of a run, or of a model in a repository.", exists=True, file_okay=False)
    ],
    windows: Annotated[int, typer.Option(min=1, help="Windows of each video.")] = 1,
    crops: Annotated[int, typer.Option(min=1, max=3, help="Spatial crops of each window: 1 or 3.")] = 1,
    precision: Annotated[
        float, typer.Option(min=0.5, max=1.0, help="Independent scores: share right from each label's threshold on.")
    ] = 0.8,
    footage: Annotated[
        Path | None,
        typer.Option(help="Camera motion: a set that `vidtr footage` made.", exists=True, file_okay=False),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(help="Camera motion: held-out pictures, where the run does not name them.", exists=True),
    ] = None,
    each: Annotated[int, typer.Option(min=1, help="Camera motion: generated clips of each class.")] = 100,
    long: Annotated[
        int,
        typer.Option(min=0, help="Camera motion: generated videos of ten minutes; only their events are evaluated."),
    ] = 0,
    faithfulness: Annotated[
        int,
        typer.Option(min=0, help="Clips whose attention is compared with Shapley values: of --videos, or generated."),
    ] = 0,
    write: Annotated[
        bool,
        typer.Option("--write", help="Of a served model: keep what --faithfulness measures in its config.pbtxt."),
    ] = False,
    truth: Annotated[
        Path | None,
        typer.Option(help="CSV table of real windows that were looked at; only they are evaluated.", dir_okay=False),
    ] = None,
    videos: Annotated[
        Path | None,
        typer.Option(
            help="Folder that the table's files lie in; the table's own when absent. With --faithfulness and no table: "
            "any videos.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(help="CSV file of other answers to the same windows; may be repeated.", dir_okay=False),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the report; that of the run when absent.")] = None,
) -> None:
    """Evaluate a run on its held-out data, or a camera-motion model; write report.html and figures.json."""
    from service.evaluation.candidates import among, of_repository, of_run, score_of
    from service.model.presets import CAMERA_MOTION_LABELS
    from service.settings import Settings
    from service.training.config import GeneratedData, is_run
    from service.training.start import make_network

    if crops == 2:
        raise typer.BadParameter("crops must be 1 or 3, not 2", param_hint="--crops")
    if write and (is_run(target) or not faithfulness):
        raise typer.BadParameter("it keeps what --faithfulness measures of a served model", param_hint="--write")
    untrained: Score | None = None
    data: GeneratedData | None = None
    if is_run(target):
        candidate, settings = of_run(target)
        if truth is None and not isinstance(settings.data, GeneratedData):
            _labeled(target, candidate, settings, windows, crops, precision, out or target)
            return
        if isinstance(settings.data, GeneratedData):
            data = settings.data
        untrained = score_of(make_network(settings, len(candidate.labels)).eval())
    else:
        candidate = of_repository(target, Settings().torchscript_operators)
    if faithfulness and videos is not None and truth is None:
        _faithfulness(candidate, videos, faithfulness, out or (None if write else target), target if write else None)
        return
    if out is None and not is_run(target):
        raise typer.BadParameter("where is the report of a served model to go?", param_hint="--out")
    if truth is not None:
        _windows(candidate, truth, videos, beside or [], out or target)
        return
    try:
        candidate = candidate if long else among(candidate, CAMERA_MOTION_LABELS)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="TARGET") from error
    if pictures is not None:
        data = (data or GeneratedData(kind="camera_motion", pictures=pictures, held_out_pictures=pictures)).model_copy(
            update={"held_out_pictures": pictures}
        )
    if data is None:
        raise typer.BadParameter("a served model needs pictures that it was not trained on", param_hint="--pictures")
    if long:
        _events(candidate, data, long, out or target, target if is_run(target) else None)
        return
    _camera_motion(candidate, data, untrained, footage, each, faithfulness, out or target, target if write else None)


def _events(candidate: Candidate, data: GeneratedData, videos: int, out: Path, run: Path | None) -> None:
    from service.cli.event_evaluation import evaluate_events

    with _progress() as tell:
        evaluate_events(candidate, data, videos, _limits(), out, run, tell)


def _windows(candidate: Candidate, truth: Path, videos: Path | None, beside: list[Path], out: Path) -> None:
    from service.cli.window_evaluation import evaluate_windows

    with _progress() as tell:
        evaluate_windows(candidate, truth, videos or truth.parent, beside, _limits(), out, tell)


def _faithfulness(candidate: Candidate, videos: Path, count: int, out: Path | None, model: Path | None) -> None:
    from service.cli.faithfulness_evaluation import evaluate_faithfulness

    with _progress() as tell:
        evaluate_faithfulness(candidate, videos, count, _limits(), out, model, tell)


def _labeled(
    run: Path, candidate: Candidate, settings: TrainConfig, windows: int, crops: int, precision: float, out: Path
) -> None:
    from service.training.data_source import make_source
    from service.training.evaluate import evaluate as score
    from service.training.run_report import write_report
    from service.training.thresholds import precise_thresholds, write_thresholds
    from service.training.videos_source import Videos

    source = make_source(settings, _limits(), run / "clips")
    examples: list[Examples] = source.held_out(windows, crops) if isinstance(source, Videos) else source.held_out()
    if candidate.network is None:
        raise RuntimeError("a run always has its network")
    result = score(candidate.network, examples, multi_label=source.multi_label)
    out.mkdir(parents=True, exist_ok=True)
    write_report(out / "report.html", run.name, source.labels, result, examples, crops=crops)
    (out / "figures.json").write_text(json.dumps(result.figures, indent=2) + "\n", encoding="utf-8")
    if source.multi_label:
        write_thresholds(run, source.labels, precise_thresholds(result.scores, result.targets, precision))
    table = Table("figure", "value")
    for name, value in result.figures.items():
        table.add_row(name, f"{value:.4f}")
    Console().print(table)


def crossvalidate(
    config: Annotated[Path, typer.Argument(help="TOML file of labeled data with folds.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option(help="Folder of the folds' runs and of the report; what is there goes on.")],
    windows: Annotated[int, typer.Option(min=1, help="Windows of each evaluated video.")] = 4,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Replace a field of the file: `recipe.steps=50`; may be repeated.")
    ] = None,
) -> None:
    """Train and evaluate every fold of labeled data, beside chance and a classifier of mean frames."""
    from service.evaluation.folds import cross_validate, folds_table
    from service.training.config import read_config
    from service.training.intervals import shown, wilson
    from service.training.run_report import write_report

    console = Console()
    found = cross_validate(
        read_config(config, set_ or ()), out, _limits(), windows, lambda line: console.print(line, highlight=False)
    )
    (out / "figures.json").write_text(json.dumps(found.figures, indent=2) + "\n", encoding="utf-8")
    write_report(
        out / "report.html", out.name, found.labels, found.result, found.examples, first=[folds_table(found.figures)]
    )
    table = Table("figure", "mean of the folds", "sd")
    for name in ("top1", "frame_average", "most_frequent", "chance"):
        summary = found.figures[name]
        table.add_row(name, f"{100 * summary['mean']:.1f} %", f"{100 * summary['sd']:.1f}")
    console.print(table)
    hits = found.result.scores.argmax(1) == found.result.targets.argmax(1)
    console.print(f"all folds together: {shown(wilson(int(hits.sum()), len(hits)))}", highlight=False)


def _camera_motion(
    candidate: Candidate,
    data: GeneratedData,
    untrained: Score | None,
    footage: Path | None,
    each: int,
    compared: int,
    out: Path,
    model: Path | None,
) -> None:
    import torch

    from service.cli.faithfulness_evaluation import comparable, kept, shown_faithfulness
    from service.evaluation.assessment_report import write_motion_report
    from service.evaluation.camera_motion import assess, flattened
    from service.evaluation.decoded import decode_real_test_set
    from service.evaluation.examples import attention_picture, spread_cuts
    from service.evaluation.faithfulness import compare
    from service.evaluation.held_out import HeldOutMotion
    from service.training.intervals import shown
    from service.training.run_report import png

    torch.set_num_threads(1)  # nor does a network of this size
    clip = candidate.clip
    if compared:
        comparable(candidate)
    made = HeldOutMotion(data, clip.frames, clip.height, 0)
    with _progress() as tell:
        real = decode_real_test_set(footage, clip, _limits(), tell) if footage else None
    found = assess(candidate, made.clips(each), made.cuts(max(1, each // 4)), real, untrained)
    if compared:
        # In no order of classes.
        made_clips = found.sets["generated"].clips
        order = torch.randperm(len(made_clips), generator=torch.Generator().manual_seed(0)).tolist()
        with _progress() as tell:
            measured = compare(candidate, (made_clips[i].numpy() for i in order), compared, tell)
        faithful = measured.figures("generated", candidate.labels)
        found.figures["faithfulness"] = shown_faithfulness(measured, faithful)
        kept(candidate, faithful, model)
    out.mkdir(parents=True, exist_ok=True)
    (out / "figures.json").write_text(json.dumps(found.figures, indent=2) + "\n", encoding="utf-8")
    write_motion_report(out / "report.html", candidate.name, found)
    pictured = found.sets["generated"]  # not footage: people in it were not asked
    rows = spread_cuts(pictured.result.cut)
    if rows:
        clips, cut = pictured.clips[rows], pictured.result.cut[rows]
        attention = candidate.score(clips).temporal_attention
        (out / "attention.png").write_bytes(png(attention_picture(clips, attention, cut)))
    console = Console()
    table = Table("figure", "value (95 % interval; cases)")
    for name, value in flattened(found.figures).items():
        table.add_row(name, shown(value) if isinstance(value, dict) else f"{value:.4f}")
    console.print(table)
    table = Table("target", "found", "wanted", "")
    for target in found.targets:
        bound = f"{'at most' if target.at_most else 'at least'} {100 * target.bound:.1f} %"
        table.add_row(target.what, f"{100 * target.value:.1f} %", bound, "met" if target.met else "missed")
    console.print(table)


@contextmanager
def _progress() -> Iterator[Tell]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("")
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)


def _limits() -> VideoLimits:
    from service.settings import Settings
    from service.video.config import VideoLimits

    return Settings().subset(VideoLimits)
