"""Videos that are classified at the same time, until all are done or Ctrl-C stops them."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

import httpx
from rich.console import Console

from service.cli.answers import Answer, window_line
from service.cli.engines import Engine
from service.cli.inputs import Input
from service.contracts import JobRequest, WindowResult
from service.errors import VidtrError

INTERRUPTED = 130


def one_after_the_other(parts: Sequence[tuple[int, Iterable[Answer]]]) -> Generator[Answer]:
    """The answers of each part, until one is stopped before all of its so many have come."""
    for count, answers in parts:
        come = 0
        for answer in answers:
            yield answer
            come += 1
        if come < count:
            return


def side_by_side(
    run: Engine, inputs: Sequence[Input], options: JobRequest, jobs: int, log: Console, *, live: bool
) -> Iterator[Answer]:
    """Answers as they come. Ctrl-C lets those in work end and takes no more; a second one ends everything."""
    stopped = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopped
        if stopped:
            os._exit(INTERRUPTED)
        stopped = True
        log.print("stopping after the files in work; Ctrl-C again stops at once", highlight=False)

    before = signal.signal(signal.SIGINT, stop)
    left = iter(inputs)
    running: set[Future[Answer]] = set()
    try:
        with ThreadPoolExecutor(jobs, thread_name_prefix="classify") as pool:
            while True:
                while not stopped and len(running) < jobs and (video := next(left, None)) is not None:
                    running.add(pool.submit(_one, run, video, options, log if live else None))
                if not running:
                    return
                # In short pieces, because a signal is handled between them.
                done, running = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
    finally:
        signal.signal(signal.SIGINT, before)


def _one(run: Engine, video: Input, options: JobRequest, live: Console | None) -> Answer:
    on_window = None if live is None else partial(_show_window, live, video.name)
    options = options if video.options is None else video.options
    try:
        # Here, so that a file that cannot be read is told from one that cannot be decoded.
        if isinstance(video.video, Path):
            video.video.open("rb").close()
        return Answer(video.name, result=run.classify(video.video, options, on_window))
    except (VidtrError, OSError, httpx.TransportError) as error:
        return Answer.failed(video.name, error)


def _show_window(log: Console, name: str, _: int, window: WindowResult) -> None:
    log.print(window_line(name, window), markup=False, highlight=False, soft_wrap=True)
