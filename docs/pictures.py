"""The pictures of model.md, drawn from the bundled model and a clip that is generated: `make pictures`.

    python -m docs.pictures [FOLDER]

They are SVG with their text as text, so that what they say can be read, and checked, in the files themselves.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.patches import Rectangle
from rich.console import Console
from torch import Tensor

from docs.figure_data import CUT, ClipExplanation, cut_goes_first, example, shipped_network
from service.cli.attention_figure import DROPPED, FAINT, KEPT
from service.model.config import VidTrConfig
from service.model.vidtr import VidTr

CLASS_TOKEN, CLASSIFIED, CUT_LINE = "#3a4048", "#000000", "#c1121f"
_CLEAR: Any = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
_STYLE: Any = {"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "vidtr", "font.family": "DejaVu Sans"}


def draw_grid(network: VidTr, looked: ClipExplanation) -> Figure:
    """The grid of tokens with both directions of attention, and how many rows of it each layer has."""
    config = network.config
    figure = Figure(figsize=(11, 5.6))
    grid = GridSpec(
        2, 1, figure=figure, height_ratios=[1.15, 1], hspace=0.12, left=0.07, right=0.99, top=0.99, bottom=0.01
    )
    _tokens(figure.add_subplot(grid[0]), config, looked.clip)
    _layers(figure.add_subplot(grid[1]), config, looked)
    return figure


def _tokens(axes: Axes, config: VidTrConfig, clip: Tensor) -> None:
    across = config.width // config.patch
    tiles = (
        clip.float().unfold(1, config.patch, config.patch).unfold(2, config.patch, config.patch)
    )  # (T, y, x, 3, p, p)
    colors = (tiles.mean(dim=(-1, -2)) / 255).flatten(1, 2)  # (T, S, 3)
    for row in range(config.rows):
        for column in range(config.columns):
            special = row == 0 or column == 0
            face: Any = CLASS_TOKEN if special else colors[row - 1, column - 1].tolist()
            face = CLASSIFIED if row == column == 0 else face
            axes.add_patch(Rectangle((column, row), 0.88, 0.88, facecolor=face))
    axes.text(0.44, 0.44, "★", color="white", ha="center", va="center")
    row, column = config.frames // 2, 2 * across + 2
    _outline(axes, column, 0, 1, config.rows, KEPT)
    _outline(axes, 0, row, config.columns, 1, DROPPED)
    rows, columns = config.rows, config.columns
    axes.text(
        column + 0.5, rows + 0.35, f"1. along time: {rows} × {rows} in each of {columns} columns",
        color=KEPT, ha="center", va="top", fontweight="bold",
    )  # fmt: skip
    axes.text(
        columns, -0.35, f"2. across space: {columns} × {columns} in each of {rows} rows",
        color=DROPPED, ha="right", va="bottom", fontweight="bold",
    )  # fmt: skip
    axes.text(0, -0.35, "★ is classified; dark: class tokens", va="bottom")
    axes.text(-0.3, 0.44, "class row", ha="right", va="center", fontsize=8)
    for frame in range(config.frames):
        axes.text(-0.3, frame + 1.44, f"frame {frame}", ha="right", va="center", fontsize=8)
    axes.set(xlim=(-0.1, columns + 0.1), ylim=(rows + 1.2, -1.4))
    axes.axis("off")


def _outline(axes: Axes, x: float, y: float, width: float, height: float, color: str) -> None:
    place = (x - 0.06, y - 0.06)
    axes.add_patch(Rectangle(place, width, height, fill=False, edgecolor=color, linewidth=2.2, zorder=3))


def _layers(axes: Axes, config: VidTrConfig, looked: ClipExplanation) -> None:
    step, width = 6.2, 2.0
    kept: list[tuple[int, ...]] = [tuple(range(config.frames))]
    for layer in range(config.depth):
        pooled = [choice.kept for choice in looked.choices if choice.layer == layer + 1]
        kept.append(pooled[0] if pooled else kept[-1])
    for state, frames in enumerate(kept):
        left = state * step
        last = state == config.depth
        axes.add_patch(Rectangle((left, 0), width, 0.84, facecolor=CLASSIFIED if last else CLASS_TOKEN))
        if last:
            axes.text(left + width / 2, 0.42, "★", color="white", ha="center", va="center")
        for frame in range(config.frames):
            there = frame in frames
            face = KEPT if there else "none"
            edge = KEPT if there else (DROPPED if state and frame in kept[state - 1] else "#d8dce2")
            fade = 0.25 if last and there else 1.0
            axes.add_patch(Rectangle((left, frame + 1), width, 0.84, facecolor=face, edgecolor=edge, alpha=fade))
        rows = 1 + len(frames)
        title = "enter" if state == 0 else f"after layer {state}"
        axes.text(left + width / 2, -0.3, title, ha="center", va="bottom", fontweight="bold")
        below = "★ alone is read" if last else f"{len(frames)} frames + class row"
        axes.text(left + width / 2, config.rows + 0.25, below, ha="center", va="top", fontsize=8)
        if not last:
            keep = config.kept_in(state)
            lines = [f"time {rows} × {rows}", *([f"keep {keep} of {len(frames)}"] if keep else []), "space", "MLP"]
            middle = left + width + (step - width) / 2
            axes.annotate("", (left + step - 0.2, 1.9), (left + width + 0.2, 1.9), arrowprops={"arrowstyle": "->"})
            for number, line in enumerate(lines):
                color = DROPPED if line.startswith("keep") else "black"
                axes.text(middle, 2.9 + 1.05 * number, line, ha="center", va="center", color=color, fontsize=8)
    axes.set(xlim=(-2.4, config.depth * step + width + 1.2), ylim=(config.rows + 1.4, -1.4))
    axes.axis("off")


def draw_dropping(network: VidTr, looked: ClipExplanation) -> Figure:
    """Which frames each layer keeps, and the deviations by which it chose."""
    config = network.config
    figure = Figure(figsize=(10.4, 5.0))
    strip, axes = _under_frames(figure, looked, height=2.6)
    for layer in range(1, config.depth + 1):
        choice = next((each for each in looked.choices if each.layer == layer), None)
        for frame in range(config.frames):
            there = bool(looked.scores.layer_retention[layer - 1, frame])
            if choice is not None and frame in choice.deviations:
                text, face = f"{choice.deviations[frame]:.4f}", KEPT if there else DROPPED
                ink = "white"
            else:
                text, face, ink = ("kept", "#cfe3f1", "black") if there else ("gone", "#eef0f2", FAINT)
            axes.add_patch(Rectangle((frame - 0.47, layer - 0.46), 0.94, 0.92, facecolor=face))
            axes.text(frame, layer, text, ha="center", va="center", color=ink)
    names = {
        each.layer: f"layer {each.layer}: σ, {len(each.kept)} of {len(each.deviations)} stay" for each in looked.choices
    }
    axes.set_yticks(range(1, config.depth + 1), [names.get(n, f"layer {n}") for n in range(1, config.depth + 1)])
    axes.set(ylim=(config.depth + 0.5, 0.5), xticks=[])
    strip.set_title("which frames each layer keeps; σ is the deviation of a frame's attention", loc="left", fontsize=10)
    _cut_line(axes, looked)
    return figure


def draw_attention(network: VidTr, looked: ClipExplanation) -> Figure:
    """The rollout of a clip below its frames, and the class row of each layer from which it is made."""
    figure = Figure(figsize=(10.4, 6.6))
    strip, axes, rows = _under_frames(figure, looked, height=1.9, extra=1.7)
    attention = looked.scores.temporal_attention.tolist()
    last = set(looked.choices[-1].kept) if looked.choices else set(range(network.frames))
    axes.bar(
        range(network.frames), attention, 0.6, color=[KEPT if f in last else DROPPED for f in range(network.frames)]
    )
    for frame, value in enumerate(attention):
        axes.text(frame, value + 0.004, f"{value:.3f}", ha="center", va="bottom", zorder=3, bbox=_CLEAR)
    even = 1 / network.frames
    axes.axhline(even, color=FAINT, linewidth=1, linestyle="--")
    axes.text(network.frames - 0.48, even, f"even\n{even:.3f}", va="center", color=FAINT, fontsize=8)
    axes.set(ylim=(0, 1.2 * max(attention)), xticks=[])
    axes.set_ylabel("temporal_attention")
    shares = looked.scores.layer_attention
    for layer in range(network.config.depth):
        for frame in range(network.frames):
            value = float(shares[layer, frame])
            face = (1 - value * 0.95, 1 - value * 0.55, 1 - value * 0.3)
            rows.add_patch(Rectangle((frame - 0.47, layer + 0.54), 0.94, 0.92, facecolor=face))
            alive = layer == 0 or bool(looked.scores.layer_retention[layer - 1, frame])
            rows.text(frame, layer + 1, f"{value:.2f}" if alive else "gone", ha="center", va="center", fontsize=8)
    rows.set_yticks(range(1, network.config.depth + 1), [f"layer {n}" for n in range(1, network.config.depth + 1)])
    rows.set(ylim=(network.config.depth + 0.5, 0.5), xticks=[])
    rows.set_ylabel("layer_attention")
    share = float(looked.scores.logits.softmax(dim=-1)[CUT])
    strip.set_title(
        f"cut {share:.3f}: what each frame counted; blue frames are carried to the end", loc="left", fontsize=10
    )
    for below in (axes, rows):
        _cut_line(below, looked)
    return figure


def _under_frames(figure: Figure, looked: ClipExplanation, height: float, extra: float | None = None) -> list[Axes]:
    """Axes with a place for each frame, the first of which shows the frames."""
    heights = [1.0, height, *([] if extra is None else [extra])]
    grid = GridSpec(
        len(heights), 1, figure=figure, height_ratios=heights, left=0.17, right=0.94, top=0.94, bottom=0.03, hspace=0.12
    )
    every = [figure.add_subplot(part) for part in grid]
    for axes in every:
        axes.set_xlim(-0.5, len(looked.clip) - 0.5)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    for frame, picture in enumerate(looked.clip):
        inset = every[0].inset_axes((frame - 0.47, 0.1, 0.94, 0.9), transform=every[0].transData)
        inset.imshow(picture.numpy(), interpolation="nearest", aspect="auto")
        inset.axis("off")
        every[0].text(frame, 0, f"frame {frame}", ha="center", va="center", fontsize=8)
    every[0].set(ylim=(0, 1), xticks=[], yticks=[])
    _cut_line(every[0], looked)
    return every


def _cut_line(axes: Axes, looked: ClipExplanation) -> None:
    axes.axvline(looked.cut + 0.5, color=CUT_LINE, linewidth=2)


PICTURES: dict[str, Callable[[VidTr, ClipExplanation], Figure]] = {
    "model_grid.svg": draw_grid,
    "model_dropping.svg": draw_dropping,
    "model_attention.svg": draw_attention,
}


def as_svg(draw: Callable[[VidTr, ClipExplanation], Figure], network: VidTr, looked: ClipExplanation) -> bytes:
    """One picture; the same bytes each time."""
    with rc_context(_STYLE):
        figure = draw(network, looked)
        figure.set_facecolor("white")
        FigureCanvasAgg(figure)
        out = io.BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def main() -> None:
    """Write the pictures; print how often the frames beside a cut are the first to go."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent)
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    network = shipped_network()
    looked, candidates = example(network)
    console = Console()
    for name, draw in PICTURES.items():
        (folder / name).write_bytes(as_svg(draw, network, looked))
        console.print(folder / name, soft_wrap=True)
    console.print(
        f"{sum(map(cut_goes_first, candidates))} of {len(candidates)} clips lose both frames beside the cut first"
    )


if __name__ == "__main__":
    main()
