"""One window of an answer as a drawing: its frames, how much each counted, and where each was dropped."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from numpy.typing import NDArray

from service.aggregate import NOTHING_CLEAR
from service.cli.map_overlay import highest_of, lay_map, shown_view
from service.contracts import FrameAttention, Prediction, WindowResult

# Blue and vermilion of Okabe and Ito: told apart by everybody, and in grey.
KEPT, DROPPED, FAINT = "#0072b2", "#d55e00", "#8a8f98"
DROPPED_YET_ATTENDED = (
    "A dropped frame can count much: its attention is what the classified token read of it, directly or through other "
    "frames, in all layers up to the one that dropped it; and those are dropped whose own attention is the most even, "
    "not those that count least."
)
NO_ATTENTION = "This model gives no attention; --causal measures what each frame contributes."
_STYLE: Any = {"font.size": 9, "svg.fonttype": "none", "axes.spines.top": False, "axes.spines.right": False}
_FRAME_INCHES = 1.15
_LABELS_INCHES = 2.6
_TITLE_INCHES = 0.45
_NOTE_INCHES = 0.17
_NOTE_LETTERS_PER_INCH = 14
_DPI = 144


def dropped_after(frame: FrameAttention) -> int | None:
    """Layer, counted from 1, after which nothing of the frame was left; None for one that was carried to the end."""
    for layer, share in enumerate(frame.layer_retention or (), start=1):
        if share <= 0:
            return layer
    return None


def remark(windows: Sequence[WindowResult]) -> str:
    """What has to be said of `windows`: empty unless a frame that was dropped has more than an even share of one."""
    for window in windows:
        attention = window.attention or ()
        if any(dropped_after(frame) is not None and frame.score > 1 / len(attention) for frame in attention):
            return DROPPED_YET_ATTENDED
    return ""


def draw(
    title: str, windows: Sequence[WindowResult], pictures: NDArray[np.uint8], form: str, *, note: str = ""
) -> bytes:
    """A picture, as `svg` or `png`, of `windows` and their frames `[N, T, h, w, 3]`, one below the other.

    A title stands above them all, below it a note, and the times of each window above it; a picture without a title is
    part of a page that says them.
    """
    count, frames, height, width = pictures.shape[:4]
    row_inches = 3.3 + _FRAME_INCHES * height / width
    width_inches = _LABELS_INCHES + _FRAME_INCHES * frames
    lines = textwrap.wrap(note, int(width_inches * _NOTE_LETTERS_PER_INCH))
    # Without a title its row is kept as a margin.
    heights = [(_TITLE_INCHES if title else 0.1) + _NOTE_INCHES * len(lines), *[row_inches] * count]
    with rc_context(_STYLE):
        figure = Figure(figsize=(width_inches, sum(heights)), facecolor="white", dpi=_DPI)
        FigureCanvasAgg(figure)
        head, *rows = figure.subfigures(count + 1, 1, squeeze=False, height_ratios=heights)[:, 0]
        # Without markup: a file may be called "$x^2$".
        head.text(0.012, 1 - 0.32 / heights[0], title, fontsize=12, fontweight="bold", parse_math=False)
        head.text(0.012, 0, "\n".join(lines), fontsize=9, color=FAINT, va="bottom", parse_math=False)
        for row, window, strip in zip(rows, windows, pictures, strict=True):
            _window(row, window, strip, bool(title))
        out = io.BytesIO()
        figure.savefig(out, format=form, metadata={"Date": None} if form == "svg" else None)
    return out.getvalue()


def _window(row: Figure, window: WindowResult, strip: NDArray[np.uint8], heading: bool) -> None:
    attention = window.attention or ()
    frames, height, width = strip.shape[:3]
    grid = GridSpec(
        3,
        frames + 1,
        figure=row,
        width_ratios=[_LABELS_INCHES / _FRAME_INCHES, *[1] * frames],
        height_ratios=[height / width * 1.0, 1.1, 0.75],
        left=0.012,
        right=0.965,
        top=0.86,
        bottom=0.13,
        wspace=0.06,
        hspace=0.32,
    )
    if heading:
        row.text(0.01, 0.95, f"{window.start_s:.2f} s to {window.end_s:.2f} s", fontsize=10, color=FAINT)
    _labels(row.add_subplot(grid[0:2, 0]), window)
    if not attention:
        for slot, picture in enumerate(strip):
            _picture(row.add_subplot(grid[0, slot + 1]), picture)
        row.add_subplot(grid[1, 1:], frameon=False, xticks=[], yticks=[]).set_title(
            NO_ATTENTION, fontsize=9, color=FAINT
        )
        return
    view = shown_view(window)
    for slot, picture in enumerate(strip):
        axes = row.add_subplot(grid[0, slot + 1])
        _frame(axes, picture, attention[slot])
        looked = None if view is None else view.frames[slot]
        if view is not None and looked is not None:
            lay_map(axes, looked, view.region, highest_of(view), width, height)
    bars = row.add_subplot(grid[1, 1:])
    _scores(bars, attention)
    _retention(row.add_subplot(grid[2, 1:]), attention)


def _labels(axes: Axes, window: WindowResult) -> None:
    predictions = window.predictions
    places = [float(place) for place in reversed(range(len(predictions)))]
    axes.barh(
        places,
        [p.score for p in predictions],
        height=0.35,
        color=[FAINT if p.passes is False else KEPT for p in predictions],
    )
    for place, prediction in zip(places, predictions, strict=True):
        axes.text(0, place + 0.26, _scored(prediction), va="bottom", parse_math=False)
        if prediction.threshold is not None:
            axes.vlines(prediction.threshold, place - 0.26, place + 0.26, color="black", linewidth=1.2)
    if window.abstained:
        axes.set_title(NOTHING_CLEAR, loc="left", fontsize=9, fontweight="bold", pad=6)
    axes.set(xlim=(0, 1.25), ylim=(-0.6, max(len(predictions), 1) - 0.2), yticks=[], xticks=[])
    axes.spines[:].set_visible(False)


def _scored(prediction: Prediction) -> str:
    text = f"{prediction.label}  {prediction.score:.3f}"
    return text if prediction.threshold is None else f"{text}  (from {prediction.threshold:.3f} on)"


def _frame(axes: Axes, picture: NDArray[np.uint8], frame: FrameAttention) -> None:
    layer = dropped_after(frame)
    _picture(axes, picture if layer is None else _faded(picture))
    axes.spines[:].set(visible=True, color=KEPT if layer is None else DROPPED, linewidth=2)
    axes.set_title(f"{frame.time_s:.2f} s", fontsize=8, pad=3)
    fate = "kept" if layer is None else f"dropped after {layer}"
    axes.set_xlabel(fate, fontsize=7, color=KEPT if layer is None else DROPPED, labelpad=2)


def _picture(axes: Axes, picture: NDArray[np.uint8]) -> None:
    axes.imshow(picture, aspect="auto", interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def _faded(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Paler, and still to be made out: a frame that was dropped may be the one that counted most."""
    return (255 - (255 - picture.astype(np.uint16)) * 13 // 20).astype(np.uint8)


def _scores(axes: Axes, attention: Sequence[FrameAttention]) -> None:
    places = np.arange(len(attention))
    scores = [frame.score for frame in attention]
    colors = [KEPT if dropped_after(frame) is None else DROPPED for frame in attention]
    axes.bar(places, scores, width=0.55, color=colors, alpha=0.55)
    axes.plot(places, scores, color="black", linewidth=1.2, marker="o", markersize=3)
    axes.axhline(1 / len(attention), color=FAINT, linewidth=0.8, linestyle="--")
    axes.text(len(attention) - 0.5, 1 / len(attention), " even\n share", va="center", fontsize=7, color=FAINT)
    axes.set(xlim=(-0.5, len(attention) - 0.5), ylim=(0, max(*scores, 1 / len(attention)) * 1.35), xticks=[])
    axes.set_ylabel("attention", fontsize=8)
    for place, score in enumerate(scores):
        # On white, because the line to the next frame may rise through it.
        axes.annotate(
            f"{score:.3f}",
            (place, score),
            (0, 5),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=7,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
            zorder=3,
        )


def _retention(axes: Axes, attention: Sequence[FrameAttention]) -> None:
    shares = np.array([frame.layer_retention or (frame.retention,) for frame in attention]).T
    axes.imshow(shares, aspect="auto", cmap="Blues", vmin=0, vmax=1.4, interpolation="nearest")
    axes.set_yticks(range(len(shares)), [str(layer) for layer in range(1, len(shares) + 1)], fontsize=7)
    axes.set_xticks(range(len(attention)), [str(frame.frame) for frame in attention], fontsize=7)
    axes.set_ylabel("layer", fontsize=8)
    axes.set_xlabel("frame of the window; blue: the share of it that is carried on after each layer", fontsize=8)
    axes.spines[:].set_visible(False)
