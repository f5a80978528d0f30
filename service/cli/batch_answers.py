"""`vidtr classify` through a server for many videos by URL: they go as one batch, and the answers come as they are."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, cast

from rich.console import Console

from service.cli.answers import Answer
from service.cli.inputs import Input
from service.client import BatchResult, Client, VideoUrl
from service.client.client_errors import problem_error
from service.contracts import JobRequest
from service.errors import InternalError


def as_batch(client: Client, wanted: Sequence[Input], options: JobRequest, log: Console) -> Generator[Answer]:
    """Answers as they come of a batch of these videos, which have `options` where they have none of their own.

    A batch that is not read to its end is cancelled.
    """
    batch = client.create_batch([_line(video, options) for video in wanted])
    log.print(f"batch {batch.id}: {batch.counts.total} videos", highlight=False)
    ended = False
    try:
        for result in client.batch_results(batch.id):
            yield _answer(wanted[result.line - 1].name, result)
        ended = True
    except KeyboardInterrupt:
        # The command says how many are done.
        return
    finally:
        if not ended:
            log.print(f"cancelling batch {batch.id}", highlight=False)
            client.cancel_batch(batch.id)


def _line(video: Input, common: JobRequest) -> dict[str, Any]:
    options = common if video.options is None else video.options
    given = options.model_dump(exclude_none=True, exclude_defaults=True)
    return {"source": {"url": cast(VideoUrl, video.video).url}, "options": given}


def _answer(name: str, result: BatchResult) -> Answer:
    if result.result is not None:
        return Answer(name, result=result.result)
    error = InternalError("The line has no result.") if result.error is None else problem_error(result.error)
    return Answer.failed(name, error)
