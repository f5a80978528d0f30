"""The threads of a forward on the CPU: how many are worth their cores, and how long they spin. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from math import inf
from time import perf_counter

# Threads of GNU OpenMP spin at the end of each parallel loop until the last has come. If one of them has lost its core
# to a decode process, the others burn theirs for milliseconds, hundreds of times a forward: beside one busy process a
# batch was seen to take 5 to 10 times the CPU time. A thousand turns are a few microseconds, after which they sleep.
SPIN = {"GOMP_SPINCOUNT": "1000"}

WORTH = 0.8
"""Share of a core's time that each thread has to put to use."""
_RUNS = 3


def spin_briefly(environment: MutableMapping[str, str]) -> None:
    """Shorten the spinning, unless the environment says something about it; before torch is loaded, which reads it."""
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & environment.keys():
        environment.update(SPIN)


def worthwhile(timed: Callable[[int], float], most: int) -> int:
    """How many threads a forward should take, of 1, 2, 4 … and `most`.

    `timed(n)` runs it on n threads and returns seconds. It is the largest count at which n threads are at least
    WORTH x n times as fast as one: a small network loses the cores of its threads to waiting, and the decoder, the API
    and Redis need them. The best of some runs in turns counts, so that other work on the machine disturbs it little.
    """
    counts = [1]
    while counts[-1] < most:
        counts.append(min(2 * counts[-1], most))
    best = dict.fromkeys(counts, inf)
    for _ in range(_RUNS):
        for n in counts:
            best[n] = min(best[n], timed(n))
    return max(n for n in counts if best[1] >= WORTH * n * best[n] or n == 1)


def seconds(run: Callable[[], object]) -> float:
    """How long `run` takes."""
    started = perf_counter()
    run()
    return perf_counter() - started
