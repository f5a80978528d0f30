"""What classifies a file for the command line: a running service, or the same rooms in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol, cast

from service.client import Client, Options, Retry, ServedModel
from service.contracts import JobRequest, JobResult, ModelRef
from service.errors import UnknownModel


class Engine(Protocol):
    """May be used by several threads. Methods raise VidtrError or httpx.TransportError."""

    def classify(self, path: Path, options: JobRequest) -> JobResult:
        """The answer for a file. Raises OSError as well."""

    def model(self, ref: ModelRef) -> ServedModel:
        """The model that gave an answer."""


def engine(server: str | None, api_key: str | None, retry_for_s: float) -> AbstractContextManager[Engine]:
    """The service at `server`; without one, the models of the settings in this process."""
    return _remote(server, api_key, retry_for_s) if server else _in_process()


class _Remote:
    def __init__(self, client: Client) -> None:
        self._client = client

    def classify(self, path: Path, options: JobRequest) -> JobResult:
        given = options.model_dump(exclude_none=True, exclude_defaults=True)
        return self._client.classify(path, **cast(Options, given))

    def model(self, ref: ModelRef) -> ServedModel:
        for model in self._client.models():
            if (model.name, model.version) == (ref.name, ref.version):
                return model
        raise UnknownModel(f"the server no longer serves version {ref.version} of {ref.name}")


@contextmanager
def _remote(server: str, api_key: str | None, retry_for_s: float) -> Iterator[Engine]:
    with Client(server, api_key=api_key, retry=Retry(for_s=retry_for_s)) as client:
        yield _Remote(client)


def _in_process() -> AbstractContextManager[Engine]:
    from service.cli.in_process import rooms
    from service.settings import Settings

    return rooms(Settings())
