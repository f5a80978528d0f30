"""How both clients connect."""

from __future__ import annotations

import ipaddress
import urllib.request
from typing import TypedDict

import httpx

# Longer than a server may decode and wait before it answers: until then silence is no fault.
TIMEOUT_S = 150.0
CONNECT_S = 5.0


class Connection(TypedDict):
    """Arguments that `httpx.Client` and `httpx.AsyncClient` share."""

    base_url: str
    headers: dict[str, str]
    timeout: httpx.Timeout
    trust_env: bool
    mounts: dict[str, None]


def connection(base_url: str, api_key: str | None, timeout_s: float) -> Connection:
    """The arguments for one server. A proxy of the environment is not asked for a server on this machine."""
    url = httpx.URL(base_url)
    own = is_loopback(url.host)
    return {
        "base_url": base_url,
        "headers": {} if api_key is None else {"Authorization": f"Bearer {api_key}"},
        "timeout": httpx.Timeout(timeout_s, connect=CONNECT_S),
        # The environment also names the certificates that are trusted.
        "trust_env": not own or url.scheme == "https",
        "mounts": dict.fromkeys(("http://", "https://", "all://")) if own else {},
    }


def proxy_of(base_url: str) -> str | None:
    """Address of the proxy of the environment that is asked in the place of a server, without name and password."""
    url = httpx.URL(base_url)
    if is_loopback(url.host) or urllib.request.proxy_bypass(url.host):
        return None
    proxies = urllib.request.getproxies()
    named = proxies.get(url.scheme) or proxies.get("all")
    if not named:
        return None
    proxy = httpx.URL(named if "://" in named else f"http://{named}")
    return f"{proxy.scheme}://{proxy.netloc.decode('ascii')}"


def with_proxy(error: httpx.TransportError, proxy: str | None) -> httpx.TransportError:
    """The error, and that it is one of `proxy`, or of the way to it, where there is one."""
    if proxy is None:
        return error
    said = str(error).removesuffix(".") or type(error).__name__
    return type(error)(f"{said}. The proxy {proxy}, which the environment names, was asked: see NO_PROXY.")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
