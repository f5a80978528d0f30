import pytest

from service.api.streaming import asked_for


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (None, False),
        ("*/*", False),
        ("application/json", False),
        ("text/event-stream", True),
        ("application/json, text/event-stream", True),
        ("application/json;q=0.4, Text/Event-Stream; q=0.5", True),
        ("application/json, text/event-stream;q=0.1", False),
        ("*/*, text/event-stream;q=0.9", False),
        ("application/json;q=0, */*, text/event-stream;q=0.1", True),
        ("text/event-stream;q=0", False),
        ('application/json;profile="a, text/event-stream"', False),
    ],
)
def test_events_are_sent_to_those_who_name_them_and_would_not_rather_have_json(
    accept: str | None, wanted: bool
) -> None:
    assert asked_for(accept) is wanted
