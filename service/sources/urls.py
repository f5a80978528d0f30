"""Which URLs of a caller this service sends requests to."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit

from service.sources.addresses import public

_LONGEST_NAME, _LONGEST_LABEL = 253, 63


WEB = ("https", "http")


def fault_of(url: str, *, private: bool, schemes: tuple[str, str] = WEB) -> str | None:
    """What is wrong with `url`; None for one that may be asked. Names are resolved when they are asked, not now.

    `schemes` are one with encryption and one without. With `private` the latter and private addresses are allowed.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return str(error)
    allowed = schemes if private else schemes[:1]
    if not url.isascii() or not url.isprintable() or " " in url:
        return "a URL is printable ASCII"
    if parts.scheme not in allowed:
        return f"the scheme must be {' or '.join(allowed)}"
    if not parts.hostname or port == 0:
        return "host or port is missing"
    if parts.username is not None or parts.fragment:
        return "neither a user nor a fragment may stand in it"
    name = parts.hostname.removesuffix(".")
    if len(name) > _LONGEST_NAME or not all(0 < len(label) <= _LONGEST_LABEL for label in name.split(".")):
        return f"each part of the host's name has 1 to {_LONGEST_LABEL} letters, all {_LONGEST_NAME}"
    return None if private else _private_literal(parts)


def _private_literal(parts: SplitResult) -> str | None:
    try:
        address = ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        return None
    return None if public(address) else f"{address} is not a public address"
