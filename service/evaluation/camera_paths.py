"""Known camera paths for cropping windows out of still shots, frame by frame.

Units: lengths in widths of the window, angles in radians, time in sampled frames. Shapes: N frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RANGES = {"pan": (0.015, 0.08), "tilt": (0.015, 0.08), "zoom": (0.02, 0.08), "roll": (1.5, 7.0), "shake": (0.01, 0.04)}
"""Slowest and fastest: widths, share of the view and degrees for each sampled frame; root mean square of a shake."""

_AXES = {
    "pan_left": (0, -1),
    "pan_right": (0, 1),
    "tilt_up": (1, -1),
    "tilt_down": (1, 1),
    "zoom_in": (2, -1),
    "zoom_out": (2, 1),
    "roll_ccw": (3, -1),
    "roll_cw": (3, 1),
}


@dataclass(frozen=True)
class CameraPath:
    """Where the window lies in each frame, and how much light it has."""

    center: Array
    """`(N, 2)`, x to the right and y down."""
    log_view: Array
    """`(N,)`, logarithm of the window's size relative to its first: falling is zooming in."""
    angle: Array
    """`(N,)`, clockwise."""
    light: Array
    """`(N,)`, 1 for the full picture, 0 for the faded one."""
    speed: float
    """In the units of `RANGES`; 0 where the class has none."""


def sample_path(label: str, times: Array, frames: int, rng: np.random.Generator) -> CameraPath:
    """A random path of the class for frames at `times` `(N,)`; the clip is sampled at times 0 .. `frames` - 1.

    `cut` is one of its two shots: still, or in a quarter of them moving slowly, as under a fade.
    """
    state = np.zeros((len(times), 4))
    light, speed = np.ones(len(times)), 0.0
    if label in _AXES:
        speed = float(rng.uniform(*RANGES[label.partition("_")[0]]))
        state = _directed(label, speed, times, frames, rng)
    elif label == "shake":
        speed = float(rng.uniform(*RANGES["shake"]))
        state = _shaken(speed, times, rng)
    elif label in ("cut", "fade") and rng.random() < 0.25:
        moving = str(rng.choice(list(_AXES)[:6]))
        state = _directed(moving, float(rng.uniform(0.004, 0.015)), times, frames, rng)
    if label == "fade":
        length = rng.uniform(0.6, 1.0) * (frames - 1)
        start = rng.uniform(0, frames - 1 - length)
        light = 1 - np.clip((times - start) / length, 0, 1) * rng.uniform(0.9, 1.0)
        light = light if rng.random() < 0.5 else light[::-1]
    return CameraPath(state[:, :2], state[:, 2], state[:, 3], light, speed)


def _directed(label: str, speed: float, times: Array, frames: int, rng: np.random.Generator) -> Array:
    """`(N, 4)` x, y, log view and angle: steady or eased, with a little drift aside and an operator's tremor."""
    span = frames - 1
    run = times.copy()
    if rng.random() < 0.3:
        u = np.clip(times / span, 0, 1)
        ease = rng.uniform(0.2, 0.7)
        run = span * ((1 - ease) * u + ease * u * u * (3 - 2 * u))
    axis, sign = _AXES[label]
    rate = speed
    if axis == 2:
        rate = math.log1p(speed)
    elif axis == 3:
        rate = math.radians(speed)
    state = np.zeros((len(times), 4))
    state[:, axis] = sign * rate * run
    if axis < 2:
        state[:, 1 - axis] = rng.uniform(-0.12, 0.12) * rate * run
    if rng.random() < 0.5:
        state[:, :2] += rng.uniform(0.0003, 0.002) * _wobble(times, 2, rng)
    return state


def _shaken(rms: float, times: Array, rng: np.random.Generator) -> Array:
    state = np.zeros((len(times), 4))
    state[:, :2] = rms * _wobble(times, 2, rng) * rng.uniform(0.5, 1.0, 2)
    state[:, 2] = rms * _wobble(times, 1, rng)[:, 0] * rng.uniform(0, 0.3)
    state[:, 3] = rms * _wobble(times, 1, rng)[:, 0] * rng.uniform(0, 0.7)
    return state


def _wobble(times: Array, channels: int, rng: np.random.Generator) -> Array:
    """`(N, channels)` of mean 0 and root mean square 1: five swings of 0.13 to 0.6 cycles for each sampled frame."""
    cycles = rng.uniform(0.13, 0.6, (5, channels))
    phase = rng.uniform(0, 2 * np.pi, (5, channels))
    moved = np.sin(2 * np.pi * cycles * times[:, None, None] + phase).sum(axis=1)
    moved -= moved.mean(axis=0)
    return np.asarray(moved / np.sqrt((moved**2).mean(axis=0)))
