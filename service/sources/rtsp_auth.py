"""Answers to the challenge of a server of RTSP: Digest (RFC 7616) by MD5 or SHA-256, and Basic (RFC 7617)."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from dataclasses import dataclass, field

from service.errors import SourceRefused
from service.sources.stream_logins import StreamLogin

# A word alone begins a challenge, one with a value belongs to it.
_PART = re.compile(r'([A-Za-z0-9_-]{1,40})(?:[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^\s,"]+))?[ \t,]*')
_BEST_FIRST = ("SHA-256", "MD5")


@dataclass
class _Challenge:
    scheme: str
    values: dict[str, str] = field(default_factory=dict)


class Authorization:
    """Says who asks, as the server wants to hear it."""

    def __init__(self, login: StreamLogin, offered: tuple[str, ...]) -> None:
        """`offered` are the headers `WWW-Authenticate`. Raises SourceRefused where none of them can be answered."""
        self._login = login
        self._count = 0
        self._chosen = _choose([one for header in offered for one in _parse(header)])

    def header(self, method: str, url: str) -> str:
        """The value of the header `Authorization` of a request."""
        user, password = self._login.user, self._login.password.get_secret_value()
        if self._chosen.scheme == "basic":
            return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        said, algorithm = self._chosen.values, _algorithm(self._chosen)
        realm, nonce = said.get("realm", ""), said.get("nonce", "")
        secret, asked = _hash(algorithm, f"{user}:{realm}:{password}"), _hash(algorithm, f"{method}:{url}")
        self._count += 1
        values = {"username": user, "realm": realm, "nonce": nonce, "uri": url}
        if "auth" in re.split(r"[\s,]+", said.get("qop", "")):
            count, own = f"{self._count:08x}", secrets.token_hex(8)
            values["response"] = _hash(algorithm, f"{secret}:{nonce}:{count}:{own}:auth:{asked}")
            rest = f', qop=auth, nc={count}, cnonce="{own}"'
        else:
            values["response"], rest = _hash(algorithm, f"{secret}:{nonce}:{asked}"), ""
        if "opaque" in said:
            values["opaque"] = said["opaque"]
        quoted = ", ".join(f'{name}="{_escaped(value)}"' for name, value in values.items())
        return f"Digest {quoted}, algorithm={algorithm}{rest}"


def _parse(header: str) -> list[_Challenge]:
    found: list[_Challenge] = []
    at = 0
    while part := _PART.match(header, at):
        at = part.end()
        if part[2] is None:
            found.append(_Challenge(part[1].lower()))
        elif found:
            found[-1].values[part[1].lower()] = re.sub(r"\\(.)", r"\1", part[2].strip('"'))
    return found


def _choose(challenges: list[_Challenge]) -> _Challenge:
    digests = [one for one in challenges if one.scheme == "digest" and one.values.get("nonce")]
    for algorithm in _BEST_FIRST:
        for one in digests:
            if _algorithm(one) == algorithm:
                return one
    for one in challenges:
        if one.scheme == "basic":
            return one
    offered = ", ".join(sorted({one.scheme for one in challenges})) or "none"
    raise SourceRefused(
        f"The source wants to know who asks in a way that is not supported ({offered[:80]}); Basic, and Digest by MD5"
        " or SHA-256 are.",
        actual=offered[:80],
    )


def _algorithm(challenge: _Challenge) -> str:
    return challenge.values.get("algorithm", "MD5").upper()


def _hash(algorithm: str, text: str) -> str:
    name = "sha256" if algorithm == "SHA-256" else "md5"
    return hashlib.new(name, text.encode(), usedforsecurity=False).hexdigest()


def _escaped(value: str) -> str:
    return re.sub(r'(["\\])', r"\\\1", value)
