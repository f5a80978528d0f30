import pytest

from service.api.streaming import asked_for


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (None, False),
        ("*/*", False),
        ("application/json", False),
        ("text/event-stream", True),
        ("application/json, Text/Event-Stream;q=0.5", True),
    ],
)
def test_events_are_sent_only_to_those_who_name_them(accept: str | None, wanted: bool) -> None:
    assert asked_for(accept) is wanted
