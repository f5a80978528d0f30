"""URLs that a server of RTSP names: whatever host they name, they are asked for where the connection leads."""

from __future__ import annotations

from urllib.parse import urlsplit

from service.errors import SourceNotAllowed, SourceRefused, sentence

_URL_LENGTH = 2048


def check_downgrade(url: str, target: str) -> None:
    """Raise SourceNotAllowed where a redirect from `url` to `target` gives up encryption."""
    # What the server says may be no URL; whether it may be asked is checked behind this.
    if urlsplit(url).scheme == "rtsps" and target.partition(":")[0].lower() != "rtsps":
        raise SourceNotAllowed(
            "The URL of the source cannot be used: it redirects from rtsps to another scheme.",
            actual=target[:_URL_LENGTH],
        )


def own(url: str, said: str) -> str:
    """The path of a URL that the server names, at the host that was checked: it is asked over the same connection.

    Raises SourceRefused for what is no URL.
    """
    if len(said) > _URL_LENGTH or not said.isascii() or not said.isprintable() or " " in said:
        raise SourceRefused(
            f"The source names a URL of {len(said)} characters that cannot be asked for; {_URL_LENGTH} printable ones"
            " without spaces can.",
            limit=_URL_LENGTH,
            actual=len(said),
        )
    try:
        named = urlsplit(said)
    except ValueError as error:
        raise SourceRefused(f"The source names a URL that cannot be asked for: {sentence(str(error))}") from error
    return urlsplit(url)._replace(path=named.path, query=named.query).geturl()


def joined(base: str, control: str) -> str:
    """What is asked for to set up a track, as clients of RTSP put it together: paths are not resolved.

    Raises SourceRefused for what is no URL.
    """
    if control in ("", "*"):
        return base
    if "://" in control or control.startswith("/"):
        return own(base, control)
    return own(base, base + ("" if base.endswith("/") else "/") + control)
