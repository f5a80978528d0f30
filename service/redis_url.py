"""The address of Redis as a setting gives it: one server, a set of servers behind Sentinels, or a cluster."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

Kind = Literal["server", "sentinel", "cluster"]
Address = tuple[str, int]
"""host and port"""

SCHEMES: Mapping[str, tuple[Kind, bool]] = {
    "redis": ("server", False),
    "rediss": ("server", True),
    "unix": ("server", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
PORTS: Mapping[Kind, int] = {"server": 6379, "sentinel": 26379, "cluster": 6379}
HIGHEST_PORT = 65535


def _switch(value: str) -> bool:
    if value.lower() not in ("true", "false", "yes", "no", "1", "0"):
        raise ValueError(value)
    return value.lower() in ("true", "yes", "1")


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError(value)
        return value

    return parse


# What may follow the `?`, and what it has to look like: words of redis-py, but for those of the Sentinels.
OPTIONS: Mapping[str, Callable[[str], object]] = {
    "db": int,
    "username": str,
    "password": str,
    "socket_timeout": float,
    "socket_connect_timeout": float,
    "socket_keepalive": _switch,
    "health_check_interval": int,
    "max_connections": int,
    "timeout": float,
    "ssl_ca_certs": str,
    "ssl_ca_path": str,
    "ssl_ca_data": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_password": str,
    "ssl_cert_reqs": _one_of("required", "optional", "none"),
    "ssl_check_hostname": _switch,
    "ssl_min_version": int,
    "ssl_ciphers": str,
}
OF_SENTINELS = ("sentinel_username", "sentinel_password")


@dataclass(frozen=True)
class RedisUrl:
    """A parsed `redis_url`."""

    kind: Kind
    tls: bool
    addresses: tuple[Address, ...]
    """of the server, of the Sentinels, or of some servers of the cluster; empty for a unix socket"""
    server_url: str = field(repr=False)
    """of the one server, or of any server of the set, with the address left to find: a URL that redis-py takes"""
    service: str = ""
    """the name under which the Sentinels watch the servers"""
    sentinel_login: tuple[str | None, str | None] = field(default=(None, None), repr=False)
    """user and password of the Sentinels themselves"""
    username: str | None = None
    has_password: bool = False

    @classmethod
    def parse(cls, text: str) -> RedisUrl:
        """Raises ValueError; its message contains no password."""
        url = _split(text)
        kind, tls = _kind(url.scheme, text)
        login, at, hosts = url.netloc.rpartition("@")
        options = _options(url.query, kind)
        if url.scheme == "unix":
            if hosts or not url.path:
                raise ValueError("unix:// must be followed by the path of a socket, such as unix:///run/redis.sock.")
            addresses: tuple[Address, ...] = ()
            service, db = "", options.get("db", "")
        else:
            addresses = tuple(_address(host, PORTS[kind]) for host in hosts.split(","))
            service, db = _path(url.path, kind)
        if kind == "server" and len(addresses) > 1:
            raise ValueError(
                f"{url.scheme}:// names one server, not {len(addresses)}."
                f" For several, use {url.scheme}+sentinel:// or {url.scheme}+cluster://."
            )
        database = _database(options.get("db", db))
        if kind == "cluster" and database:
            raise ValueError(f"The database must be 0 in a cluster, not {database}.")
        sentinel_login = (options.pop(OF_SENTINELS[0], None), options.pop(OF_SENTINELS[1], None))
        options["db"] = str(database)
        if url.scheme == "unix":
            server_url = f"unix://{login}{at}{url.path}?{urlencode(options)}"
        else:
            host, port = addresses[0]
            named = f"[{host}]" if ":" in host else quote(host)
            server_url = f"{'rediss' if tls else 'redis'}://{login}{at}{named}:{port}?{urlencode(options)}"
        username = unquote(login.partition(":")[0]) or options.get("username") or None
        has_password = bool(login.partition(":")[2]) or "password" in options
        return cls(kind, tls, addresses, server_url, service, sentinel_login, username, has_password)

    @property
    def shown(self) -> str:
        """What a message may say of it: kind and addresses, no password."""
        names = ", ".join(f"{host}:{port}" for host, port in self.addresses)
        return {
            "server": names or "a unix socket",
            "sentinel": f"service {self.service} of the Sentinels {names}",
            "cluster": f"the cluster of {names}",
        }[self.kind]


def hash_tag(prefix: str) -> str:
    """The part of a key's name that decides where a cluster keeps the key: what stands in its first braces, or ``."""
    found = re.search(r"\{([^}]+)\}", prefix)
    return "" if found is None else found[1]


def prefix_of_keys(url: str, prefix: str) -> str:
    """What the names of keys begin with: in a cluster, all keys must have the same hash tag."""
    return f"{{{prefix}}}" if RedisUrl.parse(url).kind == "cluster" and not hash_tag(prefix) else prefix


def _split(text: str) -> SplitResult:
    try:
        url = urlsplit(text)
    except ValueError:
        # Its message may contain the password.
        raise ValueError("The Redis address is no URL.") from None
    if "#" in text or "@" in url.path + url.query:
        raise ValueError("In a password of the Redis address, write @ : / ? # % as %40 %3A %2F %3F %23 %25.")
    return url


def _kind(scheme: str, text: str) -> tuple[Kind, bool]:
    if scheme not in SCHEMES or not text.startswith(f"{scheme}://"):
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise ValueError(f"A Redis address must begin with one of {known}; this one begins with {scheme or 'none'}.")
    return SCHEMES[scheme]


def _options(query: str, kind: Kind) -> dict[str, str]:
    known = dict(OPTIONS)
    if kind == "sentinel":
        known |= dict.fromkeys(OF_SENTINELS, str)
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise ValueError(f"The Redis address has an unknown option {name!r}. Known: {', '.join(known)}.")
        try:
            known[name](value)
        except ValueError:
            raise ValueError(f"The option {name} of the Redis address cannot be {value!r}.") from None
        found[name] = value
    return found


def _address(host: str, default_port: int) -> Address:
    # Alone it is parsed by the rules for URLs: brackets around an IPv6 address, percent signs.
    part = urlsplit(f"//{host}")
    try:
        port = default_port if part.port is None else part.port
    except ValueError:
        port = 0
    if not part.hostname:
        if host:
            raise ValueError("A server of the Redis address has no host name before its port.")
        raise ValueError("The Redis address names no host.")
    if not 0 < port <= HIGHEST_PORT:
        raise ValueError(f"The port of {part.hostname} must be a number from 1 to {HIGHEST_PORT}.")
    return unquote(part.hostname), port


def _path(path: str, kind: Kind) -> tuple[str, str]:
    """Service and database."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    service = parts.pop(0) if kind == "sentinel" else ""
    if kind == "sentinel" and not service:
        raise ValueError(
            "The Redis address names no service of the Sentinels, such as `mymaster` in redis+sentinel://host/mymaster."
        )
    if len(parts) > 1:
        raise ValueError(f"The path of the Redis address must end with the database, not with {'/'.join(parts)!r}.")
    return service, parts[0] if parts else ""


def _database(text: str) -> int:
    if text and not (text.isascii() and text.isdecimal()):
        raise ValueError(f"The database of the Redis address must be a number, not {text!r}.")
    return int(text or 0)
