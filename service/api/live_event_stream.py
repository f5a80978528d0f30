"""What is told of a live stream, as server-sent events that a client can take up again where it broke off."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable

from fastapi.sse import format_sse_event

from service.api.feeds import POLL_S
from service.api.job_event_stream import KEEPALIVE_POLLS, Placed, take_place
from service.api.shares import Shared
from service.errors import QueueUnavailable
from service.periodic import wait_or_timeout
from service.queue.live_streams import LiveStreams
from service.queue.partitions import PerPartition
from service.queue.result_bus import ResultBus


class LiveEventStream:
    """Follows live streams for the clients of one process, whichever process decodes them."""

    def __init__(
        self,
        streams: PerPartition[LiveStreams],
        buses: PerPartition[ResultBus],
        places: Shared,
        draining: Callable[[], bool],
    ) -> None:
        """`places` are those of all event streams of the process."""
        self._streams = streams
        self._buses = buses
        self._places = places
        self._draining = draining

    def follow(self, stream_id: str, last_id: str | None, caller: str) -> AsyncIterator[bytes]:
        """Every event after `last_id`, as they happen; ends with the live stream, or when this process shuts down.

        Raises QueueFull.
        """
        take_place(self._places, caller)
        return Placed(self._events(stream_id, last_id), self._places, caller)

    async def _events(self, stream_id: str, last_id: str | None) -> AsyncIterator[bytes]:
        streams, quiet = self._streams.of(stream_id), 0
        with self._buses.of(stream_id).following(stream_id) as news:
            while not self._draining():
                news.clear()
                found = []
                # What is told of a stream outlives a restart of Redis, and so does its follower.
                with contextlib.suppress(QueueUnavailable):
                    found = await streams.events(stream_id, last_id)
                    if not found and await self._over(stream_id):
                        # What came between the two reads is read now; without more there is nothing left.
                        found = await streams.events(stream_id, last_id)
                        if not found:
                            return
                for last_id, event in found:
                    yield format_sse_event(id=last_id, event=event["event"], data_str=json.dumps(event["data"]))
                    if event["data"].get("state") == "ended":
                        return
                if found or await wait_or_timeout(news, POLL_S):
                    quiet = 0
                    continue
                quiet += 1
                if quiet % KEEPALIVE_POLLS == 0:
                    yield format_sse_event(comment="")

    async def _over(self, stream_id: str) -> bool:
        state = await self._streams.of(stream_id).find(stream_id)
        return state is None or bool(state.ended)
