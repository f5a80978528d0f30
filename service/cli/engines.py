"""What classifies a file for the command line: a running service, or the same rooms in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import cast

from service.client import Client, Options, Retry
from service.contracts import JobRequest, JobResult

# May be called by several threads. Raises VidtrError, OSError or httpx.TransportError.
Classify = Callable[[Path, JobRequest], JobResult]


def engine(server: str | None, api_key: str | None, retry_for_s: float) -> AbstractContextManager[Classify]:
    """The service at `server`; without one, the models of the settings in this process."""
    return _remote(server, api_key, retry_for_s) if server else _in_process()


@contextmanager
def _remote(server: str, api_key: str | None, retry_for_s: float) -> Iterator[Classify]:
    with Client(server, api_key=api_key, retry=Retry(for_s=retry_for_s)) as client:

        def classify(path: Path, options: JobRequest) -> JobResult:
            given = options.model_dump(exclude_none=True, exclude_defaults=True)
            return client.classify(path, **cast(Options, given))

        yield classify


def _in_process() -> AbstractContextManager[Classify]:
    from service.cli.in_process import classifier
    from service.settings import Settings

    return classifier(Settings())
