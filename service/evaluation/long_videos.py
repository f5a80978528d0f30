"""Long generated videos whose events are known: shots before a virtual camera, with cuts and dissolves between them.

Units: the long side of the frame is 1, angles are in radians; times are seconds. Shapes: N frames of a shot.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.training.camera_motion import scenes
from service.training.camera_motion.trajectories import Paths

FPS, WIDTH, HEIGHT = 30, 160, 90
_MOVES = {
    "static": (0.0, 0.0, 0.0, 0.0),
    "pan_right": (1.0, 0.0, 0.0, 0.0),
    "pan_left": (-1.0, 0.0, 0.0, 0.0),
    "tilt_down": (0.0, 1.0, 0.0, 0.0),
    "tilt_up": (0.0, -1.0, 0.0, 0.0),
    "zoom_in": (0.0, 0.0, -2.0, 0.0),
    "zoom_out": (0.0, 0.0, 2.0, 0.0),
    "roll_cw": (0.0, 0.0, 0.0, 2.0),
    "roll_ccw": (0.0, 0.0, 0.0, -2.0),
}
"""Speed of x, y, logarithm of the view and angle, for a motion of 1 at the frame's border."""
SLOWEST, FASTEST = 0.07, 0.28
"""Motion at the frame's border in a second."""
_FARTHEST = 0.45
"""Motion at the border in one move: beyond it a zoom would leave what a picture shows."""
SHORTEST_S, LONGEST_S = 1.6, 4.0
"""Length of one move."""
DISSOLVES = 0.2
"""Share of transitions that are no cuts."""


@dataclass(frozen=True)
class TrueEvent:
    """What is known of a video; an instant has equal ends."""

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class _Move:
    label: str
    frames: int
    speed: float


def write_long_video(path: Path, seconds: float, bank: Tensor, rng: np.random.Generator) -> list[TrueEvent]:
    """Write a video of about `seconds` over textures uint8 `(M, 3, S, S)`, and return its events by their start.

    Each shot has one to three moves, each of one direction or still, that follow each other without a break.
    """
    events: list[TrueEvent] = []
    frames, mixed = 0, 0
    before: NDArray[np.float32] | None = None
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "20"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.thread_count = 1
        while frames < seconds * FPS:
            moves = _moves(rng)
            shown = _rendered(moves, bank, rng)
            if before is not None:
                events.append(_transition(frames, mixed))
                shown[:mixed] = _mixed(before, shown[:mixed])
            events += _events_of(moves, frames)
            mixed = int(rng.integers(15, 37)) if rng.random() < DISSOLVES else 0
            body = len(shown) - mixed
            for picture in shown[:body]:
                for packet in video.encode(av.VideoFrame.from_ndarray(_bytes(picture), format="rgb24")):
                    container.mux(packet)
            before, frames = shown[body:], frames + body
        for packet in video.encode(None):
            container.mux(packet)
    end_s = frames / FPS
    kept = [TrueEvent(event.label, event.start_s, min(event.end_s, end_s)) for event in events if event.start_s < end_s]
    return sorted(kept, key=lambda event: event.start_s)


def _transition(first: int, frames: int) -> TrueEvent:
    return TrueEvent("dissolve" if frames else "cut", first / FPS, (first + frames) / FPS)


def _mixed(before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
    share = ((np.arange(len(before)) + 1) / (len(before) + 1)).astype(np.float32)[:, None, None, None]
    return np.asarray((1 - share) * before + share * after, dtype=np.float32)


def _moves(rng: np.random.Generator) -> list[_Move]:
    labels: list[str] = []
    for _ in range(int(rng.integers(1, 4))):
        others = [label for label in _MOVES if not labels or label != labels[-1]]
        still = "static" in others and rng.random() < 0.35
        labels.append("static" if still else str(rng.choice(others)))
    return [_move(label, rng) for label in labels]


def _move(label: str, rng: np.random.Generator) -> _Move:
    seconds = rng.uniform(SHORTEST_S, LONGEST_S)
    speed = math.exp(rng.uniform(math.log(SLOWEST), math.log(FASTEST)))
    return _Move(label, round(seconds * FPS), max(SLOWEST, min(speed, _FARTHEST / seconds)))


def _events_of(moves: Sequence[_Move], first: int) -> Iterator[TrueEvent]:
    for move in moves:
        yield TrueEvent(move.label, first / FPS, (first + move.frames) / FPS)
        first += move.frames


def _rendered(moves: Sequence[_Move], bank: Tensor, rng: np.random.Generator) -> NDArray[np.float32]:
    """`[N, HEIGHT, WIDTH, 3]` of 0 to 1."""
    steps = np.concatenate([np.tile(np.array(_MOVES[m.label]) * m.speed / FPS, (m.frames, 1)) for m in moves])
    log_view, angle = np.cumsum(steps[:, 2]), np.cumsum(steps[:, 3])
    # What a camera calls right turns with it, and is as wide as its view.
    c, s, wide = np.cos(angle), np.sin(angle), np.exp(log_view)
    x, y = steps[:, 0], steps[:, 1]
    center = np.cumsum(np.stack([wide * (c * x - s * y), wide * (s * x + c * y)], 1), axis=0)
    held, count = rng.normal(0, 0.0003, (len(steps), 2)), len(steps)
    paths = Paths(
        torch.from_numpy(center + held).float()[None],
        torch.from_numpy(log_view - log_view.mean()).float()[None],
        torch.from_numpy(angle).float()[None],
        torch.tensor([-1]),
        torch.ones(1, count),
    )
    frame = scenes.Frame(torch.tensor([[0.5, 0.5 * HEIGHT / WIDTH]]))
    view, texture = torch.tensor([float(rng.uniform(0.3, 0.5))]), bank[int(rng.integers(len(bank)))][None].float()
    offset = torch.from_numpy(rng.uniform(-0.4, 0.4, (1, 2))).float()
    parts: list[Tensor] = []
    for start in range(0, count, FPS):
        piece = slice(start, start + FPS)
        part = Paths(
            paths.center[:, piece],
            paths.log_view[:, piece],
            paths.angle[:, piece],
            paths.cut,
            paths.light[:, piece],
        )
        grid = scenes.look(part, frame, HEIGHT, WIDTH, torch.zeros(1)) if part.center.size(1) > 1 else None
        if grid is None:
            parts.append(parts[-1][:, :, -1:])
            continue
        parts.append(scenes.seen(texture, grid, view, offset))
    shown = torch.cat(parts, 2)[0].permute(1, 2, 3, 0).clamp(0, 1)
    return np.asarray(shown.numpy(), dtype=np.float32).copy()


def _bytes(picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.asarray(np.rint(picture * 255), dtype=np.uint8)
