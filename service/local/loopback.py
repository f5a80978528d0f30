"""Asking a server on this machine. No proxy is asked on the way, whatever the environment says."""

from __future__ import annotations

import http.client
import socket


def answers(host: str, port: int, path: str, timeout_s: float = 1.0) -> bool:
    """Whether GET `path` is answered with 200."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def why_not_free(host: str, port: int) -> str | None:
    """Why no server can listen at this address; None where one can."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as listening:
                # As the server does: what an earlier one has left in TIME_WAIT is no obstacle.
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listening.bind(address)
                # Two sockets may be bound to an address, and only one may listen.
                listening.listen()
    except OSError as error:
        return error.strerror or str(error)
    return None


def url(host: str, port: int) -> str:
    """The address to open for a server that listens on `host`; for one that listens on all, that of this machine."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
