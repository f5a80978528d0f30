"""Python client of the HTTP API. Needs httpx and pydantic only."""

from service.client.sync import Client

__all__ = ["Client"]
