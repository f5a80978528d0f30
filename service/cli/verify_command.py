"""`vidtr verify`: whether an answer holds for a video, by computing it again, and whether its signature does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import typer
from rich.console import Console

from service.cli.answer_files import answer_about, answers_in
from service.cli.answers import Answer
from service.cli.classify_command import REFUSED, TRY_AGAIN
from service.cli.engines import EnvFile, Repository, Server, checked_address, chosen_settings, engine
from service.cli.known_keys import known_keys
from service.contracts import JobResult, Provenance
from service.digest import file_sha256
from service.errors import BackendUnavailable, InvalidSigningKey, UnexpectedAnswer, VidtrError
from service.settings import Settings
from service.verification import TOLERANCE, Difference, differences, unabridged

if TYPE_CHECKING:
    from service.signing_keys import VerificationKey

SHOWN = 20
"""Differences that are printed; more are counted."""


def verify(
    answer: Annotated[Path, typer.Argument(help="Answer to check, as JSON.", exists=True, dir_okay=False)],
    file: Annotated[
        Path | None,
        typer.Argument(
            help="Video that it is about; without it only signatures are checked.", exists=True, dir_okay=False
        ),
    ] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(
            help="File of public keys, PEM or JWKS, one of which has to have signed the answer; may be repeated.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    keys_url: Annotated[
        str | None,
        typer.Option(
            help="Address of such keys, as JWKS: http://HOST/.well-known/jwks.json of a service that is trusted.",
            callback=checked_address,
        ),
    ] = None,
    server: Server = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="VIDTR_API_KEY", help="Key for that service; better given as VIDTR_API_KEY.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="How far scores and times may be apart.")
    ] = TOLERANCE,
    repository: Repository = None,
    env_file: EnvFile = None,
) -> None:
    """Compute an answer again and say whether it holds, and whether its signature does.

    Exit status: 0 it does, 1 it does not, 3 try again later.
    """
    log = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    out = Console(highlight=False, soft_wrap=True, markup=False)
    if file is None and not key and keys_url is None:
        raise typer.BadParameter("name the video, to compute the answer again, or keys, to check its signature")
    with log.status("reading"):
        keys = _keys(key or (), keys_url, log) if key or keys_url else None
    if file is None:
        log.print("no video is named: nothing is computed again")
        held = [_signature_holds(one.document, keys or (), out) for one in answers_in(answer)]
        raise typer.Exit(0 if all(held) else REFUSED)
    with log.status("reading"):
        sha256 = file_sha256(file)
        (document, given), made_of = answer_about(answer, sha256)
    signed = True
    if keys is not None:
        signed = _signature_holds(document, keys, out)
    elif given.signature is not None:
        log.print("the signature is not checked: name keys with --key or --keys-url")
    settings = chosen_settings(server, repository, env_file)
    found = [*_wrong_video(made_of, sha256)]
    if not found:
        options = made_of.options.model_copy(update={"model": given.model.name, "version": given.model.version})
        settings = _computing_as(given, settings)
        try:
            with log.status("computing it again"), engine(server, api_key, 60.0, settings, emulate=True) as run:
                computed = run.classify(file, unabridged(options))
        except (VidtrError, OSError, httpx.TransportError) as error:
            failed = Answer.failed(file.name, error)
            problem = failed.problem or {}
            log.print(f"error {problem['code']}: {problem['detail']}")
            raise typer.Exit(TRY_AGAIN if failed.may_pass else REFUSED) from None
        found += differences(given, computed, options, tolerance)
    for where, answered, computed_now in found[:SHOWN]:
        out.print(f"{where}: the answer says {_said(answered)}, it is {_said(computed_now)}")
    if len(found) > SHOWN:
        out.print(f"and {len(found) - SHOWN} more")
    if found:
        out.print(f"does not hold: {len(found)} differences")
        raise typer.Exit(REFUSED)
    known = "" if made_of.video_sha256 else " (the answer does not name its video by hash)"
    out.print(f"holds: {given.model.name} {given.model.version}, weights {given.model.weights_sha256[:12]}…{known}")
    if not signed:
        raise typer.Exit(REFUSED)


def _keys(files: Sequence[Path], url: str | None, log: Console) -> tuple[VerificationKey, ...]:
    """Raises BadParameter for what holds no keys, and Exit where a server gives none for now."""
    try:
        return known_keys(files, url)
    except InvalidSigningKey as error:
        raise typer.BadParameter(error.detail, param_hint="--key") from error
    except UnexpectedAnswer as error:
        raise typer.BadParameter(error.detail, param_hint="--keys-url") from error
    except BackendUnavailable as error:
        log.print(f"error {error.code}: {error.detail}")
        raise typer.Exit(TRY_AGAIN) from None


def _signature_holds(document: dict[str, Any], keys: Sequence[VerificationKey], out: Console) -> bool:
    from service.signatures import check_signature

    check = check_signature(document, keys)
    of_job = f"of job {document['id']}"
    if check.holds:
        out.print(f"the signature {of_job} holds: key {check.key}")
    else:
        out.print(f"the signature {of_job} does not hold: {check.detail}")
    return check.holds


def _computing_as(given: JobResult, settings: Settings) -> Settings:
    """The settings with which this process computes in the arithmetic of the answer, whatever its CPU has."""
    arithmetic = given.model.arithmetic
    wanted = arithmetic if arithmetic in ("bf16", "int8") else "fp32"
    return settings.model_copy(update={"engine_precision": wanted})


def _wrong_video(made_of: Provenance, sha256: str) -> Sequence[Difference]:
    if made_of.video_sha256 in (None, sha256):
        return ()
    return (Difference("the SHA-256 of the video", made_of.video_sha256, sha256),)


def _said(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value)
