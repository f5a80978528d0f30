"""What holds for the options of every query."""

from __future__ import annotations

from collections import Counter

from fastapi import Request

from service.errors import InvalidOption


async def each_once(request: Request) -> None:
    """Refuse an option that is given twice: which of its values counts would be a guess. Raises InvalidOption."""
    counted = Counter(name for name, _ in request.query_params.multi_items())
    for name, count in counted.items():
        if count > 1:
            raise InvalidOption(f"Option {name!r} is given {count} times. Give it once.", limit=1, actual=count)
