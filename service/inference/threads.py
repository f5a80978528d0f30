"""The threads of a forward on the CPU: how many it needs, which are worth their cores, how long they spin.

Loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from math import inf
from time import process_time

from service.doublings import doublings

# Threads of GNU OpenMP spin at the end of each parallel loop until the last has come. If one of them has lost its core
# to a decode process, the others burn theirs for milliseconds, hundreds of times a forward: beside one busy process a
# batch was seen to take 5 to 10 times the CPU time. A thousand turns are a few microseconds, after which they sleep.
SPIN = {"GOMP_SPINCOUNT": "1000"}

WORTH = 0.8
"""CPU time of a forward on one thread over that on several, at least."""
REST_S = 0.02
"""CPU seconds that a short, small video takes besides its forward, at least: receiving, decoding, the queue."""
_RUNS = 3
_LONG_S = 2.0
"""CPU seconds of a run on each count, from which on a repetition is not for free."""


def limit_omp_spin(environment: MutableMapping[str, str]) -> None:
    """Shorten the spinning, unless the environment says something about it; before torch is loaded, which reads it."""
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & environment.keys():
        environment.update(SPIN)


def pick_thread_count(timed: Callable[[int], float], cores: int, clips: int = 1) -> int:
    """How many threads a forward should take, of 1, 2, 4 … up to what the network needs of the `cores`.

    `timed(n)` runs it for `clips` clips on n threads and returns CPU seconds of all of them. It is the largest count at
    which they come to at most 1 / WORTH of those of one thread: the threads of a small network spend their time on each
    other, and the decoder, the API and Redis need it. CPU time, and the best of some runs in turns, because other work
    on the machine, of which there is much while a service starts, disturbs these least. A network that takes seconds is
    repeated only as long as not all threads are worth it: they mostly are, and a start is waited for.
    """
    best = {1: timed(1)}
    counts = doublings(threads_needed(best[1] / clips, cores))
    if counts == [1]:
        return 1
    for run in range(_RUNS):
        for n in counts if run else counts[1:]:
            best[n] = min(best.get(n, inf), timed(n))
        worth = max(n for n in counts if best[1] >= WORTH * best[n])
        if worth == counts[-1] and sum(best.values()) >= _LONG_S:
            break
    return worth


def threads_needed(clip_s: float, cores: int) -> int:
    """The share of the `cores` that a network has in the work of videos of one clip, of `clip_s` CPU seconds.

    With more it would wait for videos: threads that are not needed were seen to cost an eighth of the videos a second.
    """
    return max(1, round(cores * clip_s / (clip_s + REST_S)))


def cpu_seconds(run: Callable[[], object]) -> float:
    """CPU seconds that this process takes for `run`, on all its threads."""
    started = process_time()
    run()
    return process_time() - started
