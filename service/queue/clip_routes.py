"""Routes: clips of one model, version, weights and arithmetic wait together: all workers of the route score alike.

A route is the text after which the streams of such clips are named, one for each class of jobs. Processes of an earlier
release know a model by its name alone: they queue and look for clips under the name, which is a route too. Clips of
jobs that ask for evidence wait on a third one, where only workers look that can leave out frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from service.contracts import ModelSpec
from service.evidence import EXACT_FRAMES

# Hexadecimal digits of the hash of the weights: enough for versions of one model.
WEIGHTS_DIGITS = 16


def route_of(spec: ModelSpec) -> str:
    """The route of one model, version and weights, and of the arithmetic where it is not that of the weights."""
    route = f"{spec.name}:{spec.version}:{spec.weights_sha256[:WEIGHTS_DIGITS]}"
    return route if spec.arithmetic is None else f"{route}:{spec.arithmetic}"


def masked_route_of(spec: ModelSpec) -> str:
    """The route of clips of the same model of which frames may be left out."""
    return f"{route_of(spec)}:masked"


def entry_bytes(route: str, spec: ModelSpec) -> int:
    """Bytes of clips that an entry on a route stands for: entries with frames left out share those of the whole one."""
    if route != masked_route_of(spec):
        return spec.clip_bytes
    return math.ceil(spec.clip_bytes / (1 << min(spec.frames, EXACT_FRAMES)))


def model_of(route: str) -> str:
    """The name of the model whose clips wait on a route."""
    return route.partition(":")[0]


def routes(specs: Iterable[ModelSpec]) -> dict[str, ModelSpec]:
    """Every route on which clips of these specs may wait, with one spec that is served there."""
    found: dict[str, ModelSpec] = {}
    for spec in specs:
        found[route_of(spec)] = found[spec.name] = found[masked_route_of(spec)] = spec
    return found
