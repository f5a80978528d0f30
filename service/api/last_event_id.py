"""The request header `Last-Event-ID`, by which a follower of a job or a live stream goes on where it was."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header

from service.api.schemas import shaped
from service.errors import InvalidOption
from service.queue.events import EVENT_ID, is_event_id

LastEventId = Annotated[
    str | None,
    Header(description="id of the last event received; those after it are sent", json_schema_extra=shaped(EVENT_ID)),
]


def last_event(given: str | None) -> str | None:
    """The id in the header; None where it is absent or empty, which says no more. Raises InvalidOption."""
    if not given:
        return None
    if not is_event_id(given):
        raise InvalidOption(
            "Last-Event-ID is not the id of an event. Send the id of the last event received, or none.", actual=given
        )
    return given
