"""A session in one process: what is told of windows that are late or refused, and how sessions end and move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis.asyncio import Redis

from service.contracts import ModelSpec, SampledWindow, WindowResult
from service.contracts.stream_requests import StreamRequest
from service.errors import BackendUnavailable, QueueFull, StreamBusy, StreamEnded, UnknownStream
from service.live.config import StreamConfig
from service.live.pull import Pull
from service.live.sessions import LiveSessions
from service.live.task import LiveCaller, LiveTask
from service.live.window_queue import AT_A_TIME, TOO_SLOW
from service.queue.clock import Clock
from service.queue.live_streams import LiveStreams, LiveTimes
from service.queue.partitions import PerPartition
from service.queue.redis_keys import RedisKeys
from service.sources.addresses import PinnedBackend
from service.sources.config import SourceConfig
from service.sources.stream_logins import StreamLogins
from service.video.pool import DecodePool
from testing.factories import spec as model_spec
from testing.videos import write_video
from tests.unit.video.common import config

CALLER = LiveCaller(owner="", tenant="me", identity="me")
NO_SOURCES = SourceConfig(
    source_hosts=(),
    source_private_targets=False,
    source_max_bytes=1,
    source_max_requests=1,
    source_max_redirects=0,
    source_timeout_s=1.0,
)


class Engine:
    """Answers windows once `go` is set, with the code in `refusing` never."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.refusing = False

    async def score(self, task: LiveTask, window: SampledWindow, clips: bytes) -> WindowResult:
        assert len(clips) == task.clip.clip_bytes
        await self.go.wait()
        if self.refusing:
            raise BackendUnavailable("No worker is there.")
        return WindowResult(start_s=window.start_s, end_s=window.end_s, predictions=())


class Room:
    """Places for two sessions."""

    def __init__(self) -> None:
        self.taken = 0

    def take_place(self, caller: str) -> None:
        if self.taken == 2:
            raise QueueFull("It is full.")
        self.taken += 1

    def give_back(self, caller: str) -> None:
        self.taken -= 1


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_video(tmp_path_factory.mktemp("video") / "a.ts", 300, gop=30).read_bytes()


@pytest.fixture
async def pool() -> AsyncIterator[DecodePool]:
    pool = DecodePool(config())
    await pool.start()
    yield pool
    await pool.close()


@pytest.fixture
def engine() -> Engine:
    return Engine()


Make = Callable[..., LiveSessions]


@pytest.fixture
async def process(
    redis: Redis, keys: RedisKeys, pool: DecodePool, engine: Engine, tmp_path: Path
) -> AsyncIterator[Make]:
    made: list[LiveSessions] = []

    def make(**changes: Any) -> LiveSessions:
        limits = {
            "stream_max_s": 60.0,
            "stream_idle_s": 20.0,
            "stream_buffer_bytes": 100_000,
            "stream_clip_bytes": 1 << 20,
            "stream_max_delay_s": 600.0,
            "stream_max_waiting": 2,
            "stream_min_step_s": 0.1,
            "stream_keep_events": 1000,
            "stream_lease_s": 1.0,
            "stream_reconnect_s": 1.0,
            **changes,
        }
        times = LiveTimes(limits["stream_lease_s"], limits["stream_idle_s"], 60)
        sessions = LiveSessions(
            StreamConfig(**limits),
            PerPartition([LiveStreams(redis, keys, times)]),
            PerPartition([Clock(redis)]),
            pool,
            tmp_path,
            engine,
            Room(),
            Pull(NO_SOURCES, PinnedBackend(private=False), StreamLogins(None), idle_s=1.0, reconnect_s=1.0),
        )
        made.append(sessions)
        return sessions

    yield make
    for sessions in made:
        await sessions.close()


def task(max_s: float = 60.0) -> LiveTask:
    spec: ModelSpec = model_spec(frames=8, frame_step=4, reference_fps=30.0, height=32, width=32, resize_short_side=32)
    return LiveTask.of(StreamRequest(step=0.5), CALLER, spec, max_s)


async def send(sessions: LiveSessions, stream_id: str, data: bytes, *, last: bool = True) -> None:
    session = await sessions.open(stream_id, "steal")
    async with session.feeding(None, ends=lambda: last) as put:
        await put(data)


async def told(redis: Redis, keys: RedisKeys, stream_id: str) -> list[dict[str, Any]]:
    found = await LiveStreams(redis, keys, LiveTimes(1.0, 1.0, 60)).events(stream_id, None)
    return [{"kind": event["event"], **event["data"]} for _, event in found]


async def until(ready: Callable[[], bool]) -> None:
    for _ in count():
        if ready():
            return
        await asyncio.sleep(0.01)


async def until_ended(sessions: LiveSessions, stream_id: str) -> str:
    for _ in count():
        if ended := (await sessions.find(stream_id)).ended:
            return ended
        await asyncio.sleep(0.05)
    raise AssertionError


async def test_windows_that_the_engine_is_too_slow_for_are_told_as_dropped(
    process: Make, engine: Engine, redis: Redis, keys: RedisKeys, data: bytes
) -> None:
    sessions = process()
    begun = await sessions.begin(task())
    engine.go.clear()
    await send(sessions, begun.id, data)
    await until(lambda: sessions.ledger(begun).seen >= 17)
    engine.go.set()
    assert await until_ended(sessions, begun.id) == "end"
    events = await told(redis, keys, begun.id)
    numbers = [event["number"] for event in events if event["kind"] == "window"]
    [dropped] = [event for event in events if event["kind"] == "dropped"]
    assert numbers[:AT_A_TIME] == list(range(AT_A_TIME))
    assert dropped["why"] == TOO_SLOW
    assert dropped["windows"] + len(numbers) == sessions.ledger(await sessions.find(begun.id)).seen
    # What was dropped is what was seen first of all that waited.
    assert (dropped["from_s"], dropped["to_s"]) == (
        AT_A_TIME * 0.5,
        pytest.approx((numbers[AT_A_TIME] - 1) * 0.5 + task().clip.span_s),
    )


async def test_windows_without_a_worker_are_dropped_with_the_code(
    process: Make, engine: Engine, redis: Redis, keys: RedisKeys, data: bytes
) -> None:
    sessions = process()
    engine.refusing = True
    begun = await sessions.begin(task())
    await send(sessions, begun.id, data)
    assert await until_ended(sessions, begun.id) == "end"
    events = await told(redis, keys, begun.id)
    assert {event["why"] for event in events if event["kind"] == "dropped"} == {"backend_unavailable"}
    assert not [event for event in events if event["kind"] == "window"]


@pytest.mark.parametrize(
    ("limits", "max_s", "reason"), [({"stream_idle_s": 0.3}, 60.0, "idle"), ({}, 0.5, "limit")], ids=["idle", "limit"]
)
async def test_a_session_ends_by_itself(
    process: Make, data: bytes, limits: dict[str, float], max_s: float, reason: str
) -> None:
    sessions = process(**limits)
    begun = await sessions.begin(task(max_s))
    await send(sessions, begun.id, data[:30_000], last=False)
    assert await until_ended(sessions, begun.id) == reason
    with pytest.raises(StreamEnded):
        await sessions.open(begun.id, "steal")


async def test_a_session_that_has_come_to_its_end_takes_no_more_while_its_last_windows_are_answered(
    process: Make, engine: Engine, data: bytes
) -> None:
    sessions = process(stream_idle_s=0.3)
    begun = await sessions.begin(task())
    engine.go.clear()
    session = await sessions.open(begun.id, "take")
    await send(sessions, begun.id, data, last=False)
    await until(lambda: not session.running)
    assert not (await sessions.find(begun.id)).ended
    opened = asyncio.create_task(sessions.open(begun.id, "steal"))
    received = session.ledger.received
    await session.put(b"more")
    assert session.ledger.received == received
    assert not opened.done()
    engine.go.set()
    with pytest.raises(StreamEnded):
        await opened
    assert (await sessions.find(begun.id)).ended == "idle"


async def test_a_session_that_another_process_takes_is_told_by_that_one_alone(
    process: Make, redis: Redis, keys: RedisKeys, data: bytes
) -> None:
    first, second = process(), process()
    begun = await first.begin(task())
    half = len(data) // 2
    await send(first, begun.id, data[:half], last=False)
    session = await first.open(begun.id, "take")
    await until(lambda: session.ledger.windows >= 3)
    await send(second, begun.id, data[half:])
    await session.ended()
    assert await until_ended(second, begun.id) == "end"
    events = await told(redis, keys, begun.id)
    assert [event["state"] for event in events if event["kind"] == "state"] == ["started", "resumed", "ended"]
    starts = [event["start_s"] for event in events if event["kind"] == "window"]
    assert starts == sorted(set(starts))
    [gap] = [event for event in events if event["kind"] == "dropped"]
    assert gap["why"] == "interrupted"
    assert gap["to_s"] in starts
    numbers = [event["number"] for event in events if event["kind"] == "window"]
    assert numbers == sorted(set(numbers))


async def test_a_process_that_stops_leaves_its_sessions_to_others(
    process: Make, redis: Redis, keys: RedisKeys, data: bytes
) -> None:
    first, second = process(), process()
    begun = await first.begin(task())
    await send(first, begun.id, data[:30_000], last=False)
    await first.close()
    assert not (await second.find(begun.id)).ended
    await send(second, begun.id, data[30_000:])
    assert await until_ended(second, begun.id) == "end"


async def test_a_session_is_ended_at_any_process(process: Make, data: bytes) -> None:
    first, second = process(), process()
    begun = await first.begin(task())
    await send(first, begun.id, data[:30_000], last=False)
    session = await first.open(begun.id, "take")
    await second.end(begun.id)
    await session.ended()
    assert (await first.find(begun.id)).ended == "deleted"


async def test_one_request_at_a_time_sends_a_stream(process: Make, data: bytes) -> None:
    sessions = process()
    begun = await sessions.begin(task())
    session = await sessions.open(begun.id, "take")
    async with session.feeding(None, ends=lambda: True) as put:
        await put(data[:1000])
        with pytest.raises(StreamBusy):
            async with session.feeding(None, ends=lambda: True):
                pass


async def test_there_are_so_many_sessions_and_their_places_come_back(process: Make, data: bytes) -> None:
    sessions = process()
    begun = [await sessions.begin(task()) for _ in range(3)]
    for one in begun[:2]:
        await sessions.open(one.id, "take")
    with pytest.raises(QueueFull):
        await sessions.open(begun[2].id, "take")
    with pytest.raises(QueueFull):
        await sessions.begin(task())
    await sessions.end(begun[0].id)
    await send(sessions, begun[2].id, data)
    assert await until_ended(sessions, begun[2].id) == "end"


async def test_a_session_that_never_was_is_unknown(process: Make) -> None:
    sessions = process()
    for call in (sessions.find, sessions.end):
        with pytest.raises(UnknownStream):
            await call("0" * 32)


async def test_windows_that_the_decoder_is_too_slow_for_are_told_as_dropped(
    process: Make, redis: Redis, keys: RedisKeys, data: bytes
) -> None:
    sessions = process(stream_max_delay_s=1e-9)
    begun = await sessions.begin(task())
    await send(sessions, begun.id, data)
    assert await until_ended(sessions, begun.id) == "end"
    events = [event for event in await told(redis, keys, begun.id) if event["kind"] != "state"]
    *windows, dropped = events
    assert [window["number"] for window in windows] == list(range(len(windows)))
    assert dropped["why"] == "decoder_slow"
    assert dropped["from_s"] == len(windows) * 0.5
    whole_windows = int((10.0 - task().clip.span_s) / 0.5) + 1
    assert dropped["windows"] + len(windows) == whole_windows
    assert sessions.ledger(await sessions.find(begun.id)).dropped == dropped["windows"]


async def test_a_decoder_that_stood_still_goes_on_with_what_is_seen_now(
    process: Make, redis: Redis, keys: RedisKeys, data: bytes
) -> None:
    sessions = process(stream_max_delay_s=4.0, stream_buffer_bytes=1 << 20)
    begun = await sessions.begin(task())
    session = await sessions.open(begun.id, "take")
    parts = [data[len(data) * at // 5 : len(data) * (at + 1) // 5] for at in range(5)]
    async with session.feeding(None, ends=lambda: True) as put:
        for part in parts[:2]:
            await put(part)
        await until(lambda: sessions.ledger(begun).windows >= 3)
        children = psutil.Process().children(recursive=True)
        decoders = [one for one in children if "forkserver_main" in " ".join(one.cmdline())]
        for decoder in decoders:
            decoder.suspend()
        for part in parts[2:4]:
            await put(part)
        await asyncio.sleep(2.5)
        for decoder in decoders:
            decoder.resume()
        await until(lambda: session.held == 0)
        await put(parts[4])
    assert await until_ended(sessions, begun.id) == "end"
    events = [event for event in await told(redis, keys, begun.id) if event["kind"] != "state"]
    [gap] = [event for event in events if event["kind"] == "dropped"]
    assert gap["why"] == "decoder_slow"
    at = events.index(gap)
    assert [event["number"] for event in events[:at]] == list(range(at))
    after = events[at + 1 :]
    assert [event["number"] for event in after] == list(range(at + gap["windows"], at + gap["windows"] + len(after)))
    assert (gap["from_s"], gap["to_s"]) == (at * 0.5, after[0]["start_s"])
