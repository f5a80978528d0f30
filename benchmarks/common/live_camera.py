"""A camera for benchmarks: sends a stream at the rate at which it films, and follows what is told of it.

Both go on at the next address where a connection breaks, as a sender of the documentation does.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

TICK_S = 0.1
_PAUSE_S = 0.5
_TOLERANCE_S = 1e-6


@dataclass(frozen=True)
class Film:
    """The bytes of a transport stream of so many seconds."""

    data: bytes
    seconds: int


@dataclass
class Told:
    """What was told of one stream.

    Attributes:
        events: `window`, `dropped` and `state` with their data, in the order in which they came.
        broken: how often a connection of the sender or of the follower broke off.
    """

    events: list[dict[str, Any]] = field(default_factory=list)
    broken: int = 0

    @property
    def windows(self) -> list[dict[str, Any]]:
        """Windows with an answer."""
        return [event for event in self.events if event["kind"] == "window"]

    @property
    def repeated(self) -> int:
        """Windows that came again, or out of order."""
        starts = [window["start_s"] for window in self.windows]
        return sum(after <= before for before, after in itertools.pairwise(starts))

    @property
    def unsaid(self) -> int:
        """Stretches between two windows that were in neither of them, and that no event called dropped."""
        spans = [
            (event["start_s"], event["end_s"]) if event["kind"] == "window" else (event["from_s"], event["to_s"])
            for event in self.events
            if event["kind"] != "state"
        ]
        return sum(after[0] > before[1] + _TOLERANCE_S for before, after in itertools.pairwise(spans))

    @property
    def reason(self) -> str:
        """Why it ended."""
        return str(self.events[-1].get("reason"))


class Camera:
    """One stream of one film, sent to the first of `urls` and, when that is gone, to the next."""

    def __init__(self, urls: list[str], film: Film, step_s: float, begin_at: float) -> None:
        """`begin_at` is when it begins to film, in seconds of `time.perf_counter`."""
        self._urls = urls
        self._film = film
        self._step_s = step_s
        self._begin_at = begin_at
        self._told = Told()
        self._path = ""

    def run(self) -> Told:
        """Film to the end; what was told."""
        with httpx.Client(base_url=self._urls[0], timeout=60) as client:
            begun = client.post("/v1/streams", json={"step": self._step_s, "top_k": 1, "attention": "none"})
            begun.raise_for_status()
            self._path = f"/v1/streams/{begun.json()['id']}"
        following = threading.Thread(target=self._follow)
        following.start()
        self._send()
        following.join()
        return self._told

    def _send(self) -> None:
        """One body, or another from where the last one came to, until all was received."""
        at, size = 0, len(self._film.data)
        for url in itertools.cycle(self._urls):
            with httpx.Client(base_url=url, timeout=self._film.seconds + 120) as client:
                try:
                    if at:
                        found = client.get(self._path)
                        found.raise_for_status()
                        if found.json()["state"] == "ended":
                            return
                        at = found.json()["received"]
                    asked: dict[str, str | int] = {"offset": at, "last": "true"}
                    sent = client.post(f"{self._path}/media", params=asked, content=self._filmed(at))
                    if sent.is_success:
                        return
                    if sent.status_code not in (409, 429, 503):
                        sent.raise_for_status()
                except httpx.TransportError:
                    self._told.broken += 1
            at = min(max(at, 1), size)
            time.sleep(_PAUSE_S)

    def _filmed(self, at: int) -> Iterator[bytes]:
        """The bytes from `at` on, none before it was filmed."""
        data, seconds = self._film.data, self._film.seconds
        while at < len(data):
            due = int(len(data) * min(1.0, (time.perf_counter() - self._begin_at) / seconds))
            if due > at:
                yield data[at:due]
                at = due
            time.sleep(TICK_S)

    def _follow(self) -> None:
        last, ended = "", False
        for url in itertools.cycle(self._urls):
            try:
                with httpx.Client(base_url=url, timeout=self._film.seconds + 120) as client:
                    for event_id, event in _events(client, self._path, last):
                        last, ended = event_id, event.get("state") == "ended"
                        self._told.events.append(event)
            except httpx.TransportError:
                self._told.broken += 1
            if ended:
                return
            time.sleep(_PAUSE_S)


def _events(client: httpx.Client, path: str, after: str) -> Iterator[tuple[str, dict[str, Any]]]:
    headers = {"Last-Event-ID": after} if after else {}
    fields: dict[str, str] = {}
    with client.stream("GET", f"{path}/events", headers=headers) as answer:
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            fields[name] = value
            if not line:
                if "data" in fields:
                    yield fields["id"], {"kind": fields["event"], **json.loads(fields["data"])}
                fields = {}
