"""Where a webhook may go."""

from __future__ import annotations

from service.errors import InvalidOption, sentence
from service.sources.urls import fault_of


def check_url(url: str, *, private: bool) -> None:
    """Raise InvalidOption where `url` can be no webhook; with `private` plain http and private addresses can."""
    if (why := fault_of(url, private=private)) is not None:
        raise InvalidOption(f"Option 'webhook' is not valid: {sentence(why)}", actual=url)
