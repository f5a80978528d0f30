"""`vidtr models load|unload|reload|served`: the models of the running Triton servers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.errors import VidtrError
from service.settings import Settings

if TYPE_CHECKING:
    from service.inference.triton_control import ModelControl

Name = Annotated[str, typer.Argument(help="Name of the model: its folder in the model repository.")]
Url = Annotated[str | None, typer.Option("--triton-url", help="Servers; the setting triton_url by default.")]
Timeout = Annotated[float, typer.Option(help="Seconds that one server may take; loading includes the warm-up.")]


def load(name: Name, triton_url: Url = None, timeout_s: Timeout = 600.0) -> None:
    """Load a model into every Triton server; old versions answer until the new ones are ready."""
    _each(triton_url, timeout_s, lambda server: server.load(name))


def reload(name: Name, triton_url: Url = None, timeout_s: Timeout = 600.0) -> None:
    """Read the folder of a loaded model again: new versions come, removed ones go, without a gap."""
    _each(triton_url, timeout_s, lambda server: server.reload(name))


def unload(name: Name, triton_url: Url = None, timeout_s: Timeout = 600.0) -> None:
    """Unload all versions of a model, once the requests in flight are answered."""
    _each(triton_url, timeout_s, lambda server: server.unload(name))


def served(triton_url: Url = None, timeout_s: Timeout = 10.0) -> None:
    """Show how every model version stands in every Triton server, and why where it does not answer."""
    table = Table("server", "model", "version", "state", "reason")
    for server in _servers(triton_url, timeout_s):
        for state in asyncio.run(server.states()):
            table.add_row(server.url, state.model, state.version, state.state, state.reason)
    Console().print(table)


def _servers(triton_url: str | None, timeout_s: float) -> list[ModelControl]:
    from service.inference.triton_control import ModelControl

    settings = Settings() if triton_url is None else Settings(triton_url=triton_url)
    return [ModelControl(url, timeout_s, settings.triton_key) for url in settings.triton_urls]


def _each(triton_url: str | None, timeout_s: float, act: Callable[[ModelControl], Awaitable[list[str]]]) -> None:
    """One server after the other, so that a bad version is met by one of them while the others still serve."""

    async def run(server: ModelControl) -> list[str]:
        return await act(server)

    for server in _servers(triton_url, timeout_s):
        try:
            versions = asyncio.run(run(server))
        except VidtrError as error:
            Console(stderr=True).print(
                f"[red]error[/red] {server.url}: {escape(error.detail)}", highlight=False, soft_wrap=True
            )
            raise typer.Exit(1) from error
        answering = f"versions {', '.join(versions)}" if versions else "none"
        Console().print(f"{server.url}: answering now: {answering}", highlight=False, soft_wrap=True)
