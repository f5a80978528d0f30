"""How both clients connect."""

from __future__ import annotations

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


def connection(base_url: str, api_key: str | None, timeout_s: float) -> Connection:
    """The arguments for one server."""
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    return {"base_url": base_url, "headers": headers, "timeout": httpx.Timeout(timeout_s, connect=CONNECT_S)}
