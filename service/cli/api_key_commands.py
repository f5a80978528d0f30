"""`vidtr keys`: make API keys, look at those that are configured, and make keys that answers are signed with."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from service.settings import Settings

app = typer.Typer(help="API keys, and keys that answers are signed with.", no_args_is_help=True)

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


@app.command()
def signing(
    file: Annotated[Path, typer.Argument(help="File of the private key; made where there is none.", dir_okay=False)],
) -> None:
    """Make a key that answers are signed with, where there is none, and print its public half."""
    from service.signing_keys import VerificationKey, new_signing_key, read_signing_key

    if not file.exists():
        pem = new_signing_key()
        try:
            # Its owner alone may read it, from the first byte on.
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as written:
                written.write(pem)
        except OSError as error:
            raise typer.BadParameter(f"{file} cannot be written: {error.strerror}", param_hint="FILE") from error
    public = VerificationKey(read_signing_key(file).public_key())
    Console(stderr=True).print(f"key {public.id}", highlight=False, soft_wrap=True)
    sys.stdout.write(public.pem)


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
