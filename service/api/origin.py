"""Protection against other web pages: the host names of the API, and the origins whose pages may send changes.

A service on one's own machine trusts every client that reaches it, and every page that its user opens can. A page reads
responses under its own host name only, so other host names are refused (DNS rebinding). It may post without reading, so
requests that the browser marks as coming from another site are refused (as Go's `CrossOriginProtection` does).
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problems import problem
from service.errors import CrossSiteRefused, HostNotAllowed, MalformedRequest, VidtrError

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
ANY = "*"


class Origins:
    """ASGI middleware. Requests under a foreign name, and changes on behalf of foreign pages, are refused."""

    def __init__(self, app: ASGIApp, *, names: tuple[str, ...], origins: tuple[str, ...]) -> None:
        """`names`: hosts besides addresses and `localhost`, or `*`. `origins`: those of `cors_origins`."""
        self._app = app
        self._names = frozenset(map(_normal, names))
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (error := self._fault(scope, Headers(scope=scope))) is not None:
            await problem(error, scope["state"]["request_id"])(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _fault(self, scope: Scope, headers: Headers) -> VidtrError | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 and (hosts or scope["http_version"] == "1.1"):
            return MalformedRequest(f"The request has {len(hosts)} Host headers. HTTP/1.1 requires exactly one.")
        for host in hosts:
            if not self._known(host):
                return HostNotAllowed(f"The host {host!r} is not allowed. The operator can add it to `allowed_hosts`.")
        if scope["method"] not in SAFE_METHODS and not self._may_change(headers):
            origin = headers.get("origin", "another site")
            return CrossSiteRefused(
                f"Pages of {origin} may not send this request. The operator can add the origin to `cors_origins`."
            )
        return None

    def _known(self, host: str) -> bool:
        if ANY in self._names:
            return True
        name = _normal(_without_port(host))
        # An address cannot be made to lead elsewhere, and health checks use it.
        return name in self._names or name == "localhost" or name.endswith(".localhost") or _is_address(name)

    def _may_change(self, headers: Headers) -> bool:
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site in ("same-origin", "none") or (site is None and origin is None):
            return True
        if origin is not None and (ANY in self._origins or origin in self._origins):
            return True
        # A browser without Sec-Fetch-Site. A proxy may end TLS, so the scheme says nothing.
        return site is None and origin is not None and urlsplit(origin).netloc == headers.get("host")


def _normal(name: str) -> str:
    return name.lower().rstrip(".").removeprefix("[").removesuffix("]")


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0]
    return host.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
