"""Windows of real videos whose camera moves as was measured: what no virtual camera shows.

`python -m benchmarks.real_windows OUT.pt VIDEOS...` gathers them once. A virtual camera that looks at such a window
moves within the frame of the real one, so that the motions of both add up to the pose in the world.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from service.training.camera_motion import scenes
from service.training.camera_motion.living import HEIGHT, WIDTH
from service.training.camera_motion.moves import Moves, motion_targets
from service.training.camera_motion.scenes import Frame
from service.training.camera_motion.trajectories import Draw, Paths, turned

_AT_REST = 0.65
"""Virtual cameras that keep still before a real window: only the real one moves."""
_BOTH = 0.7
"""Second shots that are real where the first is."""


@dataclass(frozen=True)
class RealView:
    """Which window each of B virtual cameras looks at, and at what part of it."""

    window: Tensor
    """`(B,)` its number; -1 where the camera looks at something else."""
    share: Tensor
    """`(B,)` of the window's width that a long side of the virtual frame covers."""
    offset: Tensor
    """`(B, 2)` from the window's middle, in -1 .. 1."""
    backwards: Tensor
    """`(B,)` whether the window runs backwards."""

    @property
    def shown(self) -> Tensor:
        """`(B,)` where there is a window."""
        return self.window >= 0

    def part(self, rows: Tensor) -> RealView:
        """Those rows of the batch."""
        return RealView(self.window[rows], self.share[rows], self.offset[rows], self.backwards[rows])


@dataclass(frozen=True)
class RealViews:
    """The same of both shots of a clip."""

    first: RealView
    second: RealView

    def part(self, rows: Tensor) -> RealViews:
        """Those rows of the batch."""
        return RealViews(self.first.part(rows), self.second.part(rows))

    @staticmethod
    def none(batch: int) -> RealViews:
        """Cameras that look at no window."""
        view = RealView(
            torch.full((batch,), -1), torch.ones(batch), torch.zeros(batch, 2), torch.zeros(batch, dtype=torch.bool)
        )
        return RealViews(view, view)


@dataclass(frozen=True)
class RealWindows:
    """N windows of T frames."""

    frames: Tensor
    """uint8 `(N, T, 3, 144, 192)`."""
    camera: Tensor
    """float32 `(N, T, 4)` the pose of each frame: x and y of its middle in widths, log view, angle, as in `Paths`."""

    @cached_property
    def weights(self) -> Tensor:
        """`(N,)` how often each is drawn: rare motions more often than their share."""
        kind = motion_targets(self.paths(torch.arange(len(self.camera)))).argmax(1)
        return kind.bincount()[kind].float().pow(-0.7)

    def paths(self, window: Tensor) -> Paths:
        """Of the real cameras of windows `(B,)`."""
        camera = self.camera[window]
        none = torch.full((len(window),), -1)
        return Paths(camera[..., :2], camera[..., 2], camera[..., 3], none, torch.ones(camera.shape[:2]))

    def views(self, draw: Draw, frame: Frame, often: float) -> RealViews:
        """Random windows for a share `often` of the clips, and for the shots after a cut mostly where it is so."""
        first = draw.chance(often, len(frame.half))
        second = draw.chance(torch.where(first, _BOTH, 0.3 * often), len(frame.half))
        return RealViews(self._view(draw, frame, first), self._view(draw, frame, second))

    def _view(self, draw: Draw, frame: Frame, shown: Tensor) -> RealView:
        batch = len(shown)
        window = torch.multinomial(self.weights, batch, replacement=True, generator=draw.generator)
        ratio = torch.tensor([1.0, WIDTH / HEIGHT])
        extent = 2 * frame.half * ratio  # of the window's sides, for a long side as wide as the window
        share = draw.uniform(0.55, 1.0, batch) / extent.amax(1)
        free = (1 - share[:, None] * extent).clamp(min=0)
        offset = draw.uniform(-1, 1, batch, 2) * free
        return RealView(torch.where(shown, window, -1), share, offset, draw.chance(0.5, batch))

    def carried(self, moves: Moves, views: RealViews) -> Moves:
        """The same moves in the world of the real cameras."""
        return replace(
            moves, paths=self._carried(moves.paths, views.first), second=self._carried(moves.second, views.second)
        )

    def _carried(self, paths: Paths, view: RealView) -> Paths:
        camera = self.camera[view.window.clamp(min=0)]
        camera = torch.where(view.backwards[:, None, None], camera.flip(1), camera)
        offset = view.offset * torch.tensor([0.5, 0.5 * HEIGHT / WIDTH])
        together = carried(paths, camera, view.share, offset)

        def chosen(name: str) -> Tensor:
            own, both = getattr(paths, name), getattr(together, name)
            return torch.where(view.shown.view(-1, *[1] * (own.dim() - 1)), both, own)

        return Paths(*(chosen(name) for name in Paths.__dataclass_fields__))

    def seen(self, grid: Tensor, view: RealView) -> Tensor:
        """What cameras see at `grid` `(B, T, h, w, 2)`: `(B, 3, T, h, w)` of 0 .. 1. All of them look at windows."""
        frames = self.frames[view.window].float()
        frames = torch.where(view.backwards.view(-1, 1, 1, 1, 1), frames.flip(1), frames)
        return scenes.seen(frames, grid, view.share, view.offset)

    def save(self, path: Path) -> None:
        """Write them to a file."""
        torch.save({"frames": self.frames, "camera": self.camera}, path)


def read_real_windows(path: Path) -> RealWindows:
    """Windows that `RealWindows.save` wrote. Raises OSError where there are none."""
    kept = torch.load(path, weights_only=True, mmap=True)
    return RealWindows(kept["frames"], kept["camera"])


def poses(steps: Tensor) -> Tensor:
    """The poses `(T, 4)` of a camera that begins at the origin and moves by `steps` `(T-1, 4)`: see `moves.steps`."""
    steps = steps.double()
    rest = torch.zeros(1, dtype=torch.float64)
    log_view = torch.cat([rest, (-2 * steps[:, 2]).cumsum(0)])
    angle = torch.cat([rest, (2 * steps[:, 3]).cumsum(0)])
    moved = turned(steps[:, :2], log_view[:-1], angle[:-1])
    center = torch.cat([torch.zeros(1, 2, dtype=torch.float64), moved.cumsum(0)])
    return torch.cat([center, log_view[:, None], angle[:, None]], 1).float()


def carried(paths: Paths, camera: Tensor, view: Tensor, offset: Tensor) -> Paths:
    """Paths in the world of virtual cameras that look at the frames of real ones.

    `camera` `(B, T, 4)` are the real poses; a long side of the virtual frame covers the share `view` `(B,)` of the real
    frame's width, around `offset` `(B, 2)` from the real frame's middle, in its widths.
    """
    center, log_view, angle = camera[..., :2], camera[..., 2], camera[..., 3]
    within = view[:, None, None] * paths.center + offset[:, None]
    return Paths(
        center + turned(within, log_view, angle),
        view.log()[:, None] + paths.log_view + log_view,
        paths.angle + angle,
        paths.cut,
        paths.light,
    )


def at_rest(moves: Moves, views: RealViews, draw: Draw) -> Moves:
    """The same with most of the cameras still that look at a window."""
    return replace(
        moves, paths=_at_rest(moves.paths, views.first, draw), second=_at_rest(moves.second, views.second, draw)
    )


def _at_rest(paths: Paths, view: RealView, draw: Draw) -> Paths:
    moves = (~view.shown | ~draw.chance(_AT_REST, len(view.window))).float()
    return replace(
        paths,
        center=paths.center * moves[:, None, None],
        log_view=paths.log_view * moves[:, None],
        angle=paths.angle * moves[:, None],
    )
