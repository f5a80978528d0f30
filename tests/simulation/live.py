"""Live streams: sessions that an API process holds while it tells of windows, and that another takes over."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from service.contracts import SampledWindow, WindowResult
from service.errors import QueueUnavailable
from service.live.teller import Ledger, Teller
from service.live.window_queue import Entry
from service.queue.live_streams import LiveTimes, Mode
from service.queue.partitions import job_id_in
from tests.simulation.ledger import Stream
from tests.simulation.plan import LEASE_S, Op

if TYPE_CHECKING:
    from tests.simulation.processes import Api
    from tests.simulation.world import World

TIMES = LiveTimes(stream_lease_s=LEASE_S, stream_idle_s=30.0, stream_keep_s=300)
HOOK_URL = "https://client.example/stream"
WINDOW_S = 0.4
ADOPT_S = LEASE_S / 2
MOST_EVENTS = 1000


async def begin(world: World, api: Api, op: Op) -> None:
    """Begin a stream, as `LiveSessions.begin` does."""
    count = len(world.keys)
    stream_id = job_id_in(op.number % count, count, f"{world.ids.getrandbits(128):032x}")
    stream = world.ledger.streams[stream_id] = Stream(op)
    webhook = HOOK_URL if op.webhook else None
    now = await api.clocks.of(stream_id).time()
    await api.live.of(stream_id).create(stream_id, op.owner, {}, now, pulled=True, webhook=webhook)
    stream.promised = True
    await _open(world, api, stream_id, "take")


async def end(world: World, api: Api, op: Op) -> None:
    """End the streams of a request by way of any API, as `LiveSessions.end` does."""
    for stream_id, stream in [*world.ledger.streams.items()]:
        if stream.op.number == op.target and stream.promised:
            stream.being_ended = True
            event = {"event": "state", "data": {"state": "ended", "reason": "deleted"}}
            await api.live.of(stream_id).hold(stream_id, api.holder, "steal", event=event, ended="deleted")


async def adopt(world: World, api: Api) -> None:
    """Take over what no process holds, as `LiveSessions` does."""
    for streams, clock in zip(api.live, api.clocks, strict=True):
        try:
            for stream_id in await streams.abandoned(await clock.time()):
                await _open(world, api, stream_id, "take")
        except QueueUnavailable:
            continue


async def _open(world: World, api: Api, stream_id: str, mode: Mode) -> None:
    """Hold a session, and go on from where it is."""
    async with api.opening:
        if stream_id in api.driven:
            return
        streams = api.live.of(stream_id)
        held, _ = await streams.hold(stream_id, api.holder, mode)
        state = await streams.find(stream_id)
        if held != "ours" or state is None:
            return
        api.driven.add(stream_id)
    teller = Teller(stream_id, api.holder, streams, Ledger.of(state.counters), 1.0, MOST_EVENTS)
    windows = world.ledger.streams[stream_id].op.clips
    world.begin(api.process, _drive(api, stream_id, teller, windows), "live")


async def _drive(api: Api, stream_id: str, teller: Teller, windows: int) -> None:
    ledger = teller.ledger
    try:
        await teller.state("resumed" if ledger.seen else "started")
        while ledger.seen < windows and not teller.lost:
            await asyncio.sleep(WINDOW_S)
            ledger.seen += 1
            number = ledger.seen - 1
            window = SampledWindow(start_s=float(number), end_s=number + 1.0, times_s=(float(number),))
            result = WindowResult(start_s=window.start_s, end_s=window.end_s, predictions=())
            await teller._answer(Entry(number, window, 0.0, None), result)
        if not teller.lost:
            await teller.end("end", "")
    finally:
        api.driven.discard(stream_id)


def busy(world: World) -> bool:
    """Whether a stream goes on, or an event is still to be told."""
    return any(world.server.one("ZCARD", key) for keys in world.keys for key in (keys.pulled, keys.stream_webhooks))


def check(world: World) -> None:
    """Compare what was told of each stream with what it was asked for."""
    for stream_id, stream in [*world.ledger.streams.items()]:
        _check(world, stream_id, stream)


def _check(world: World, stream_id: str, stream: Stream) -> None:
    violated, server, keys = world.ledger.violated, world.server, world.keys.of(stream_id)
    ended = server.one("HGET", keys.live(stream_id), "ended")
    if ended is None:
        if stream.promised or server.one("EXISTS", keys.live(stream_id)):
            violated("a live stream never ended")
        return
    found = [
        _event(entry_id, fields) for entry_id, fields in server.one("XRANGE", keys.live_events(stream_id), "-", "+")
    ]
    numbers = [event["data"]["number"] for _, _, event in found if event["event"] == "window"]
    states = [event["data"]["state"] for _, _, event in found if event["event"] == "state"]
    if numbers != [*range(len(numbers))]:
        violated("windows of a live stream came twice, not at all, or in another order")
    if ended == b"end" and len(numbers) != stream.op.clips:
        violated("a live stream ended before its last window")
    if ended == b"deleted" and not stream.being_ended:
        violated("a live stream was ended though nobody ended it")
    if states.count("ended") != 1 or found[-1][2]["data"].get("state") != "ended":
        violated("the end of a live stream is not the last that was told")
    if [sequence for _, sequence, _ in found] != [*range(1, len(found) + 1)]:
        violated("the events of a live stream are numbered wrong")
    if not stream.op.webhook:
        return
    if [*dict.fromkeys(stream.heard)] != [entry_id for entry_id, _, _ in found]:
        violated("the webhook of a live stream was not told all events in their order")


def _event(entry_id: bytes, flat: list[bytes]) -> tuple[str, int, dict[str, Any]]:
    """Id, sequence number and what is said."""
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    return entry_id.decode(), int(fields[b"sequence"]), json.loads(fields[b"event"])
