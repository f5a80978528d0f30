"""`vidtr keys`: make API keys, and look at those that are configured."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from service.settings import Settings

app = typer.Typer(help="API keys.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the caller; several keys may share it.")]
Days = Annotated[int | None, typer.Option(help="Days until the key expires; never when absent.", min=1)]
Requests = Annotated[str | None, typer.Option(help="Uploads this caller may send, such as 60/minute.")]
VideoSeconds = Annotated[str | None, typer.Option(help="Seconds of video it may send, such as 36000/day.")]


@app.command()
def new(name: Name, expires_days: Days = None, requests: Requests = None, video_seconds: VideoSeconds = None) -> None:
    """Make a key: print it on standard error, once, and the entry for the file of keys on standard output."""
    from service.api.api_keys import new_key

    key = new_key()
    entry = _entry(name, key, expires_days, requests, video_seconds)
    Console(stderr=True).print(f"key (shown only now): {key}", highlight=False, soft_wrap=True)
    sys.stdout.write(entry)


@app.command("hash")
def hash_key(
    name: Name, expires_days: Days = None, requests: Requests = None, video_seconds: VideoSeconds = None
) -> None:
    """Print the entry of a key of your own, read from standard input."""
    sys.stdout.write(_entry(name, sys.stdin.readline().strip(), expires_days, requests, video_seconds))


@app.command("list")
def list_keys() -> None:
    """A table of the configured keys."""
    from service.api.api_keys import ApiKeyConfig, ApiKeyStore

    ring = ApiKeyStore(Settings().subset(ApiKeyConfig))
    ring.load()
    table = Table("name", "hash", "expires", "valid", "requests", "video seconds")
    now = datetime.now(UTC).timestamp()
    for entry in ring.keys:
        table.add_row(
            entry.name,
            entry.hash[:15] + "…",
            entry.expires.isoformat() if entry.expires else "never",
            "yes" if entry.valid_at(now) else "no",
            entry.requests or "default",
            entry.video_seconds or "default",
        )
    Console().print(table if ring.keys else "no keys")


@app.command("webhook-secret")
def webhook_secret(
    name: Annotated[str, typer.Argument(help="Name of the caller; empty for those without a key.")],
) -> None:
    """Print the secret with which a caller verifies its webhooks."""
    from service.api.webhook_message import signing_secret

    secret = Settings().webhook_secret
    if secret is None:
        raise typer.BadParameter("the setting webhook_secret is unset: there are no webhooks")
    sys.stdout.write(signing_secret(secret, name) + "\n")


def _entry(name: str, key: str, days: int | None, requests: str | None, video_seconds: str | None) -> str:
    from service.api.api_keys import hashed, parse_keys

    lines = ["[[keys]]", f'name = "{name}"', f'hash = "{hashed(key)}"']
    if days is not None:
        expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
        lines.append(f"expires = {expires.isoformat()}")
    if requests is not None:
        lines.append(f'requests = "{requests}"')
    if video_seconds is not None:
        lines.append(f'video_seconds = "{video_seconds}"')
    text = "\n".join(lines) + "\n"
    parse_keys(text, "the entry")
    return text
