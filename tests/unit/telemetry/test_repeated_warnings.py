"""A log line that says again what one has just said."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from service.telemetry.repeated_warnings import INTERVAL_S, RepeatedWarnings


class Lines:
    def __init__(self) -> None:
        self.now = 0.0
        self.written: list[dict[str, Any]] = []
        self._processor = RepeatedWarnings(lambda: self.now)

    def say(self, method: str = "warning", **fields: Any) -> None:
        try:
            self.written.append(dict(self._processor(None, method, fields)))
        except structlog.DropEvent:
            pass


@pytest.fixture
def lines() -> Lines:
    return Lines()


def test_a_warning_is_written_once_in_a_while_and_says_how_often_it_was_held_back(lines: Lines) -> None:
    for _ in range(50):
        lines.say(event="queue_unavailable", detail="READONLY")
        lines.now += INTERVAL_S / 20
    lines.say(event="queue_unavailable", detail="READONLY")
    said = {"event": "queue_unavailable", "detail": "READONLY"}
    assert lines.written == [said, {**said, "repeated": 19}, {**said, "repeated": 19}]


def test_warnings_that_differ_in_anything_are_all_written(lines: Lines) -> None:
    for partition in (0, 1, 1.5, "1"):
        lines.say(event="queue_unavailable", partition=partition)
    lines.say(event="queue_unavailable")
    assert len(lines.written) == 5


@pytest.mark.parametrize("method", ["info", "error", "debug"])
def test_only_warnings_are_held_back(lines: Lines, method: str) -> None:
    lines.say(method, event="request")
    lines.say(method, event="request")
    assert lines.written == [{"event": "request"}] * 2


def test_a_warning_that_thousands_of_others_followed_is_written_again(lines: Lines) -> None:
    lines.say(event="first")
    for number in range(5000):
        lines.say(event="other", number=number)
    lines.say(event="first")
    assert len(lines.written) == 5002
