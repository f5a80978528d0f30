"""One HTML file that shows an evaluation: figures, accuracy of each class, confusion matrix, worst errors."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import torch
from torch import Tensor

from service.model.preprocess import as_rgb
from service.training.evaluate import Evaluation
from service.training.intervals import shown, wilson
from service.training.sources import Examples

_STYLE = (
    "body{font:15px sans-serif;margin:2em;max-width:75em}td,th{padding:.2em .5em;text-align:right}"
    "th{font-weight:600}img{display:block}figure{margin:1em 0}"
)


def write_report(
    path: Path,
    title: str,
    labels: Sequence[str],
    result: Evaluation,
    examples: list[Examples],
    *,
    first: Sequence[str] = (),
    crops: int = 1,
    errors: int = 24,
) -> None:
    """Write the report, after the HTML parts `first`. Pictures are inside the file, so that it can be moved."""
    parts = [*first, _figures(result)]
    windows = result.by_windows(crops)
    if len(windows) > 1:
        what = "mean average precision" if result.multi_label else "top-1"
        parts += [f"<h2>{what} by number of windows</h2>", line_chart(windows, "windows", what)]
    if not result.multi_label:
        parts += [
            f"<h2>Classes</h2>{class_table(labels, result)}",
            f"<h2>Confusion (rows: true, columns: predicted)</h2>{confusion_table(labels, result.confusion)}",
            gallery(labels, result, first_views(examples), errors),
        ]
    write_page(path, title, parts)


def write_page(path: Path, title: str, parts: Sequence[str]) -> None:
    """Write an HTML file of the parts below a title."""
    page = f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>"
    path.write_text(page + "\n".join([f"<h1>{html.escape(title)}</h1>", *parts]), encoding="utf-8")


def _figures(result: Evaluation) -> str:
    rows = "".join(f"<tr><th>{name}<td>{value:.4f}" for name, value in result.figures.items())
    return f"<h2>Figures</h2><table><tr><th>videos<td>{len(result.targets)}{rows}</table>"


def class_table(labels: Sequence[str], result: Evaluation) -> str:
    """Accuracy of each class with its 95 % interval."""
    rows = "".join(
        f"<tr><th>{html.escape(label)}<td>{shown(wilson(int(row[i]), int(row.sum())))}"
        for i, (label, row) in enumerate(zip(labels, result.confusion, strict=True))
    )
    return f"<table>{rows}</table>"


def confusion_table(labels: Sequence[str], counts: Tensor) -> str:
    """Counts `(K, K)` on a ground that is darker the larger their share of the row."""
    head = "".join(f"<th>{html.escape(label)}" for label in labels)
    rows = []
    for label, row, shares in zip(
        labels, counts.tolist(), (counts / counts.sum(1, True).clamp(min=1)).tolist(), strict=True
    ):
        cells = "".join(
            f'<td style="background:rgba(40,90,200,{share:.2f})">{count}'
            for count, share in zip(row, shares, strict=True)
        )
        rows.append(f"<tr><th>{html.escape(label)}{cells}")
    return f"<table><tr><th>{head}{''.join(rows)}</table>"


def line_chart(points: Mapping[int, float], across: str, up: str) -> str:
    """Shares from 0 to 1 over whole numbers, as an SVG drawing with the values written at the points."""
    width, height, left, bottom = 480, 260, 50, 40
    least, most = min(points), max(points)
    low, high = min(points.values()), max(points.values())
    pad = max(0.02, 0.2 * (high - low))
    low, high = max(0.0, low - pad), min(1.0, high + pad)

    def place(number: int, share: float) -> tuple[float, float]:
        x = left + (width - 2 * left) * (number - least) / max(1, most - least)
        return round(x, 1), round((height - bottom) * (1 - (share - low) / (high - low)) + 5, 1)

    places = [place(*point) for point in points.items()]
    line = " ".join(f"{x},{y}" for x, y in places)
    marks = "".join(
        f'<circle cx="{x}" cy="{y}" r="3"/><text x="{x}" y="{y - 8}">{100 * share:.1f}</text>'
        f'<text x="{x}" y="{height - bottom + 22}">{number}</text>'
        for (x, y), (number, share) in zip(places, points.items(), strict=True)
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" font-size="12" text-anchor="middle" '
        f'fill="#2850c8"><title>{html.escape(up)} in % by {html.escape(across)}</title>'
        f'<polyline points="{line}" fill="none" stroke="#2850c8" stroke-width="2"/>{marks}'
        f'<text x="{width / 2}" y="{height - 2}">{html.escape(across)}</text></svg>'
    )


def first_views(examples: list[Examples]) -> list[Tensor]:
    """The first view `(T, H, W, 3)` of each video."""
    return [
        view
        for example in examples
        for view in example.clips.view(len(example.targets), -1, *example.clips.shape[1:])[:, 0]
    ]


def gallery(labels: Sequence[str], result: Evaluation, clips: Sequence[Tensor], most: int) -> str:
    """The most confident errors as strips of frames; `clips` are those of the evaluated videos, `(T, H, W, 3)`."""
    truth, guess = result.targets.argmax(1), result.scores.argmax(1)
    wrong = (guess != truth).nonzero().flatten()
    wrong = wrong[result.scores[wrong, guess[wrong]].argsort(descending=True)][:most]
    figures = []
    for i in wrong.tolist():
        strip = torch.cat(list(as_rgb(clips[i])), dim=1)
        caption = f"true {labels[int(truth[i])]}, predicted {labels[int(guess[i])]} ({result.scores[i, guess[i]]:.2f})"
        figures.append(
            f'<figure><img src="data:image/png;base64,{base64.b64encode(png(strip)).decode()}">'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )
    return f"<h2>Most confident errors ({len(wrong)})</h2>{''.join(figures)}"


def png(picture: Tensor) -> bytes:
    """A picture uint8 `(H, W, 3)` as a PNG file."""
    frame = av.VideoFrame.from_ndarray(picture.contiguous().numpy(), format="rgb24")
    file = io.BytesIO()
    with av.open(file, "w", format="image2pipe") as out:
        stream: Any = out.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "rgb24"
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return file.getvalue()
