"""What classifies a file for the command line: a running service, or the same pipeline in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Protocol, cast

import httpx
import typer

import service
from service.client import Client, ModelInfo, OnWindow, Options, Retry, VideoUrl
from service.contracts import JobRequest, JobResult, ModelRef
from service.errors import UnknownModel
from service.settings import Settings

HIGHEST_PORT = 65535


def checked_address(value: str | None) -> str | None:
    """An address that can be asked, before any file is read. Raises BadParameter."""
    if value is None:
        return None
    try:
        url = httpx.URL(value)
        usable = url.scheme in ("http", "https") and bool(url.host) and (url.port or 1) <= HIGHEST_PORT
    except (httpx.InvalidURL, ValueError):
        usable = False
    if not usable:
        raise typer.BadParameter(f"{value!r} is no address of a server, such as http://127.0.0.1:8080")
    return value


Server = Annotated[
    str | None,
    typer.Option(
        help="Address of a running service; without it the model runs in this process.", callback=checked_address
    ),
]
Repository = Annotated[
    Path | None,
    typer.Option(help="Model repository, where no service is asked; its files are trusted. That of the project."),
]
EnvFile = Annotated[
    Path | None,
    typer.Option(help="File of settings to read, such as .env; none when absent.", exists=True, dir_okay=False),
]


class Engine(Protocol):
    """May be used by several threads. Methods raise VidtrError or httpx.TransportError."""

    def classify(self, video: Path | VideoUrl, options: JobRequest, on_window: OnWindow | None = None) -> JobResult:
        """The answer for a file, or for a URL where a service is asked. Raises OSError as well.

        `on_window` is called with each window, as it is scored where `options` ask for all, from any thread.
        """

    def model(self, ref: ModelRef) -> ModelInfo:
        """The model that gave an answer."""


def engine(
    server: str | None,
    api_key: str | None,
    retry_for_s: float,
    settings: Settings,
    *,
    resumable: bool = False,
    emulate: bool = False,
) -> AbstractContextManager[Engine]:
    """The service at `server`; without one, the models of the settings in this process.

    With `resumable` files go to the service in pieces. With `emulate` this process computes in any arithmetic, however
    slowly.
    """
    if server is not None:
        return _remote(server, api_key, retry_for_s, resumable=resumable)
    from service.cli.in_process import classifier_in_process

    return classifier_in_process(settings, emulate=emulate)


def chosen_settings(server: str | None, repository: Path | None, env_file: Path | None) -> Settings:
    """Settings for a command that is called in any folder, also in one that somebody else filled.

    Neither a `.env` nor a model repository counts because it lies in the current folder: what was not named is the
    project's own. Raises BadParameter where there is none and no server is asked.
    """
    settings = Settings(_env_file=env_file)
    if server is None and repository is None and "model_repository" not in settings.model_fields_set:
        repository = Path(service.__file__).parents[1] / "model_repository"
        if not repository.is_dir():
            raise typer.BadParameter(
                "this installation has no models of its own: name a repository that you trust",
                param_hint="--repository",
            )
    return settings if repository is None else settings.model_copy(update={"model_repository": repository})


class _Remote:
    def __init__(self, client: Client, *, resumable: bool) -> None:
        self._client = client
        self._resumable = resumable

    def classify(self, video: Path | VideoUrl, options: JobRequest, on_window: OnWindow | None = None) -> JobResult:
        given = options.model_dump(exclude_none=True, exclude_defaults=True)
        return self._client.classify(video, on_window=on_window, **cast(Options, given))

    def model(self, ref: ModelRef) -> ModelInfo:
        for model in self._client.models():
            if (model.name, model.version) == (ref.name, ref.version):
                return model
        raise UnknownModel(f"The server no longer serves version {ref.version} of {ref.name}.")


@contextmanager
def _remote(server: str, api_key: str | None, retry_for_s: float, *, resumable: bool) -> Iterator[Engine]:
    with client_of(server, api_key, retry_for_s) as client:
        yield _Remote(client, resumable=resumable)


def client_of(server: str, api_key: str | None, retry_for_s: float) -> Client:
    """A client of the service at `server`. Raises BadParameter where the environment names a proxy of no use."""
    try:
        return Client(server, api_key=api_key, retry=Retry(for_s=retry_for_s))
    except ImportError as error:
        # Of httpx, where the environment names a SOCKS proxy.
        raise typer.BadParameter(f"the environment names a proxy that cannot be used: {error}") from error
