"""Live streams over HTTP: what the routes need of `service.live`, built by the app."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request
from starlette.requests import ClientDisconnect

from service.api.admission import Admission
from service.api.auth import Authenticator, Principal
from service.api.json_body import read_options
from service.api.live_event_stream import LiveEventStream
from service.api.live_scoring import StreamPlaces, WindowScorer
from service.api.shares import Shared, Shares
from service.api.upload import UploadsEnd, UploadTimes, check_codings, chunks
from service.contracts import ModelSpec
from service.contracts.stream_requests import StreamRequest, StreamSource
from service.errors import RETRY_AFTER_S, Draining, InvalidOption, MalformedRequest
from service.live.config import StreamConfig
from service.live.pull import Pull
from service.live.sessions import LiveSessions, ended
from service.live.task import LiveCaller, LiveTask
from service.queue.clock import Clock
from service.queue.job_store import JobStore
from service.queue.live_streams import LiveState, LiveStreams, LiveTimes
from service.queue.partitions import Partition, PerPartition
from service.queue.result_bus import ResultBus
from service.settings import Settings
from service.sources.addresses import PinnedBackend
from service.sources.config import SourceConfig
from service.sources.stream_logins import StreamLogins
from service.sources.stream_urls import check_stream
from service.video.pool import DecodePool
from service.wire import LiveStreamStatus


@dataclass(frozen=True)
class Live:
    """The live streams of one process, and who may begin them."""

    config: StreamConfig
    sessions: LiveSessions
    events: LiveEventStream
    admission: Admission
    auth: Authenticator
    uploads_end: UploadsEnd
    check_source: Callable[[StreamSource], None]
    check_webhook: Callable[[str | None], None]
    draining: Callable[[], bool]

    async def begin(self, request: Request, caller: Principal) -> LiveState:
        """Begin the session that the body of a request asks for.

        Raises MalformedRequest, UploadTimeout, Draining, QuotaExceeded, InvalidOption, QueueFull, SourceNotAllowed,
        and what finding the model raises.
        """
        if self.draining():
            raise Draining("This process is shutting down. Try again later.", retry_after_s=RETRY_AFTER_S)
        await self.auth.check(caller)
        body = chunks(request, UploadTimes(self.config.stream_idle_s, self.config.stream_idle_s), self.uploads_end)
        options = await read_options(body, StreamRequest)
        if options.source is not None:
            self.check_source(options.source)
        self.check_webhook(options.webhook)
        spec = await self.admission.served(options.scoring(options.version))
        _check_step(options, spec, self.config)
        who = LiveCaller(
            owner=caller.owner,
            tenant=caller.tenant,
            identity=caller.identity,
            requests=caller.limits.requests,
            video_seconds=caller.limits.video_seconds,
        )
        task = LiveTask.of(options, who, spec, self.config.stream_max_s)
        _check_bytes(task, self.config)
        await self.auth.admit(caller)
        return await self.sessions.begin(task)

    async def receive(self, request: Request, stream_id: str, offset: int | None, *, last: bool) -> None:
        """Give the body of a request to a session.

        Raises what `LiveSessions.open` and `LiveSession.feeding` raise; UnsupportedMediaType, UploadTimeout, Draining,
        MalformedRequest.
        """
        check_codings(request.headers)
        session = await self.sessions.open(stream_id, "steal")
        times = UploadTimes(self.config.stream_idle_s, self.config.stream_max_s)
        whole = offset is None or last
        try:
            async with session.feeding(offset, ends=lambda: whole) as put:
                async for piece in chunks(request, times, self.uploads_end):
                    await put(piece)
                    if not session.running:
                        await session.ended()
                        raise ended(await self.sessions.find(stream_id))
        except ClientDisconnect as error:
            detail = "The client closed the connection before the piece was complete. Ask what was received, and go on."
            raise MalformedRequest(detail) from error
        if whole:
            await session.ended()

    async def status(self, state: LiveState, path: str) -> LiveStreamStatus:
        """What is said of a session whose routes are at `path`."""
        task, ledger = LiveTask.model_validate(state.task), self.sessions.ledger(state)
        held = state.held_until > await self.sessions.now(state.id)
        return LiveStreamStatus(
            id=state.id,
            state="ended" if state.ended else "running" if held else "waiting",
            reason=state.ended or None,
            created_at=state.created_at,
            model=task.model,
            version=task.version,
            span_s=task.clip.span_s,
            step_s=task.step_s,
            max_s=task.max_s,
            received=ledger.received,
            windows=ledger.windows,
            dropped=ledger.dropped,
            position_s=ledger.position_s,
            delay_s=ledger.delay_s,
            errors=ledger.errors,
            media_url=f"{path}/media" if task.request.source is None else None,
            events_url=f"{path}/events",
        )


def _check_step(options: StreamRequest, spec: ModelSpec, config: StreamConfig) -> None:
    if spec.sampling != "time":
        raise InvalidOption(
            f"Model {spec.name} chooses frames by their number in the whole video, which a live stream does not have. "
            "Use another model.",
            actual=spec.sampling,
        )
    if options.step is None:
        return
    if options.step < config.stream_min_step_s:
        raise InvalidOption(
            f"The step ({options.step:g} s) is smaller than {config.stream_min_step_s:g} s.",
            limit=config.stream_min_step_s,
            actual=options.step,
        )
    if options.step > spec.span_s:
        raise InvalidOption(
            f"The step ({options.step:g} s) is larger than a window's span ({spec.span_s:.6g} s): "
            "what lies between two windows would not be looked at.",
            limit=round(spec.span_s, 6),
            actual=options.step,
        )


def _check_bytes(task: LiveTask, config: StreamConfig) -> None:
    if task.least_bytes > config.stream_clip_bytes:
        raise InvalidOption(
            f"{task.least_bytes} bytes of clips would be held at a time; at most {config.stream_clip_bytes} are. "
            "Choose a larger step, or fewer crops.",
            limit=config.stream_clip_bytes,
            actual=task.least_bytes,
        )


def build_live(
    settings: Settings,
    stack: AsyncExitStack,
    partitions: PerPartition[Partition],
    clocks: PerPartition[Clock],
    stores: PerPartition[JobStore],
    buses: PerPartition[ResultBus],
    pool: DecodePool,
    folder: Path,
    admission: Admission,
    auth: Authenticator,
    shares: Shares,
    followers: Shared,
    uploads_end: UploadsEnd,
    check_webhook: Callable[[str | None], None],
    draining: Callable[[], bool],
) -> Live:
    """The live streams of an app, which end with `stack`."""
    config, sources = settings.subset(StreamConfig), settings.subset(SourceConfig)
    times = settings.subset(LiveTimes)
    streams = partitions.map(lambda of: LiveStreams(of.redis, of.keys, times))
    backend = PinnedBackend(private=sources.source_private_targets)
    logins = StreamLogins(settings.stream_credentials_file)
    sessions = LiveSessions(
        config,
        streams,
        clocks,
        pool,
        folder,
        WindowScorer(admission, auth, stores, buses, clocks, config.stream_max_delay_s),
        StreamPlaces(shares.of("streams", settings.max_live_streams)),
        Pull(sources, backend, logins, idle_s=config.stream_idle_s, reconnect_s=config.stream_reconnect_s),
        draining,
    )
    sessions.start()
    stack.push_async_callback(sessions.close)
    events = LiveEventStream(streams, buses, followers, draining)
    return Live(
        config,
        sessions,
        events,
        admission,
        auth,
        uploads_end,
        lambda source: check_stream(source, sources, logins),
        check_webhook,
        draining,
    )
