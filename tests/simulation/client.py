"""Requests of clients, as an API process deals with them, and what clients do when an answer is an error."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from service.api.admission import Admitted
from service.api.staging import JobEnded, Staging
from service.causal_evidence import evidence_plan
from service.contracts import DecodedVideo, JobRecord, JobRequest
from service.errors import (
    IdempotencyKeyReused,
    JobDeleted,
    Undecodable,
    UnknownDeadLetter,
    UnknownJob,
    VidtrError,
)
from service.queue.capacity import Reservation
from service.queue.idempotency import Earlier
from service.queue.job_intake import Clips, Stage
from service.queue.quota import QuotaLimits
from testing.factories import record
from tests.simulation import batches, live, room
from tests.simulation.backend import FRAMES, SPEC, clip_bytes, video
from tests.simulation.clock import skew
from tests.simulation.ledger import Job
from tests.simulation.plan import APIS, Op
from tests.simulation.scheduler import request

if TYPE_CHECKING:
    from tests.simulation.processes import Api
    from tests.simulation.world import World

Handler: TypeAlias = "Callable[[World, Api, Op], Coroutine[Any, Any, None]]"
TRIES = 4
PAUSE_S = 0.4
MOST_REQUESTS = 4
QUOTA = QuotaLimits(requests=f"{MOST_REQUESTS}/minute")
HOOK_URL = "https://client.example/hook"


class ServerDied(Exception):
    """The connection to the API broke."""


async def send(world: World, op: Op) -> None:
    """One request, repeated where a client would repeat it."""
    await asyncio.sleep(op.at)
    repeats = TRIES if op.kind != "upload" or op.key is not None else 1
    for attempt in range(repeats):
        api = world.apis[(op.api + attempt) % APIS]
        handle = _HANDLERS[op.kind]
        try:
            await _served(world, api, op, handle)
            return
        except asyncio.CancelledError:
            if world.scheduler.torn:
                raise
            return
        except (ServerDied, VidtrError) as error:
            world.note(f"request {op.number}: {type(error).__name__} {error}")
            if isinstance(error, IdempotencyKeyReused):
                return
        await asyncio.sleep(PAUSE_S)


async def _served(world: World, api: Api, op: Op, handle: Handler) -> None:
    context = copy_context()
    context.run(skew.set, lambda: api.process.skew_s)
    context.run(request.set, f"r{op.number}")
    loop = asyncio.get_running_loop()
    task = loop.create_task(handle(world, api, op), context=context)
    died = loop.create_task(api.process.died.wait())
    world.tasks += [task, died]
    await asyncio.wait({task, died}, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        raise ServerDied(api.process.name)
    died.cancel()
    await task


def _fingerprint(op: Op) -> str:
    return hashlib.sha256(f"{op.body} {op.clips} {op.bad} {op.webhook} {op.evidence}".encode()).hexdigest()


async def upload(world: World, api: Api, op: Op) -> None:
    """An upload, which the client is told of where it goes well."""
    began_s = world.loop.now
    options = JobRequest(
        windows=op.clips,
        webhook=HOOK_URL if op.webhook else None,
        evidence="causal" if op.evidence else "none",
    )
    if op.owner:
        await api.quotas.home(op.owner).spend(op.owner, QUOTA, "requests", 1)
        world.ledger.spent[op.owner].append(began_s)
    claim = None if op.key is None else await api.admission.earlier(op.key, op.owner)
    if isinstance(claim, Earlier):
        if claim.fingerprint != _fingerprint(op):
            raise IdempotencyKeyReused("another video")
        world.ledger.told[op.number].append((await api.stores.of(claim.job_id).status(claim.job_id)).id)
        return
    async with api.admission.admit(
        options, claim, op.deadline_s, asynchronous=op.asynchronous, caller=op.owner
    ) as admitted:
        job_id = admitted.job_id
        await asyncio.sleep(op.upload_s)
        same = None if op.webhook or not op.cached else api.cache.key(op.owner, SPEC, _fingerprint(op))
        if same is not None and (found := await api.cache.find(same)) is not None:
            if claim is not None:
                await api.admission.lead(claim, found.id, _fingerprint(op))
            world.ledger.told[op.number].append(found.id)
            return
        await api.admission.complete(admitted)
        now, spent_s = await api.clocks.of(job_id).time(), world.loop.now - began_s
        job = record(
            id=job_id,
            request=options,
            spec=admitted.job_model,
            decoded=video(op.clips),
            created_at=now - spent_s,
            enqueued_at=now,
            deadline_at=now + max(0.0, op.deadline_s - spent_s),
            job_class=api.admission.job_class(op.clips, asynchronous=op.asynchronous or op.evidence),
            owner=op.owner,
            evidence=evidence_plan(options, FRAMES),
        )
        world.ledger.jobs[job_id] = Job(job, op, began_s)
        bus = api.buses.of(job_id)
        unended = bus.completion(job_id)
        accept = partial(
            api.stores.of(job_id).accept,
            job,
            claim=claim,
            fingerprint=_fingerprint(op),
            cache_key=same,
            reply_to=bus.reply_to,
        )
        if op.stages == "none":
            await accept(clips=memoryview(_video(op)), reservation=admitted.reservation)
            api.admission.hand_over(job_id)
        else:
            await _in_stages(world, api, op, admitted, job, accept)
        if same is not None:
            await api.cache.remember(same, job_id)
    if op.asynchronous:
        await api.waiter._durabilities.of(job_id).wait_persisted(job_id)
        told = True
    else:
        told = await bus.wait(job_id, op.deadline_s, unended) is not None
    if told:
        world.ledger.told[op.number].append(job_id)
        world.ledger.jobs[job_id].promised = True


def _video(op: Op) -> bytes:
    return b"".join(clip_bytes(op.body, clip, clip == op.bad) for clip in range(op.clips))


async def _in_stages(
    world: World, api: Api, op: Op, admitted: Admitted, job: JobRecord, accept: Callable[..., Awaitable[None]]
) -> None:
    """Accept the job clip by clip, as its video is decoded."""
    plan = job.decoded.model_copy(update={"coverage": 0.5})

    async def begin(known: DecodedVideo, clips: Clips, reservation: Reservation, stage: Stage) -> JobRecord:
        await accept(clips=clips, reservation=reservation, stage=stage)
        return job.model_copy(update={"decoded": plan})

    async def decode() -> DecodedVideo:
        for ready in range(1, op.clips):
            staging.progress(plan, ready)
            await asyncio.sleep(op.upload_s)
        if op.stages == "broken":
            raise Undecodable("The rest is damaged.")
        return job.decoded

    descriptor = os.memfd_create("clips")
    try:
        os.write(descriptor, _video(op))
        clock, store = api.clocks.of(job.id), api.stores.of(job.id)
        staging = Staging(Path(f"/proc/self/fd/{descriptor}"), store, api.admission, admitted, clock, begin)
        decoded = await staging.decode(decode())
        if staging.begun:
            await staging.end(decoded)
        else:
            await accept(clips=memoryview(_video(op)), reservation=admitted.reservation)
        api.admission.hand_over(job.id)
    except JobEnded:
        world.note(f"request {op.number}: the job ended before its last clip")
    except BaseException as error:
        await staging.give_up(error)
        raise
    finally:
        staging.close()
        os.close(descriptor)


def _targets(world: World, op: Op) -> list[str]:
    return world.ledger.told[op.target]


async def _delete(world: World, api: Api, op: Op) -> None:
    for job_id in _targets(world, op):
        job = world.ledger.jobs[job_id]
        job.being_erased = True
        try:
            await api.stores.of(job_id).check_owner(job_id, job.record.owner.__eq__)
            await api.cache.forget(job_id)
            await api.stores.of(job_id).cancel(job_id)
        except UnknownJob:
            world.ledger.violated("an accepted job is unknown when it is to be deleted")
        job.erased = True


async def _status(world: World, api: Api, op: Op) -> None:
    for job_id in _targets(world, op):
        erased = world.ledger.jobs[job_id].erased
        try:
            await api.stores.of(job_id).check_owner(job_id, world.ledger.jobs[job_id].record.owner.__eq__)
            await api.stores.of(job_id).status(job_id)
        except JobDeleted:
            if not world.ledger.jobs[job_id].being_erased:
                world.ledger.violated("a job is deleted though nobody deleted it")
        except UnknownJob:
            world.ledger.violated("an accepted job is unknown")
        else:
            if erased:
                world.ledger.violated("a deleted job has a status")


async def _replay(world: World, api: Api, op: Op) -> None:
    for dead in api.dead:
        for letter in await dead.letters():
            world.ledger.jobs[letter.job_id].replays += 1
            # Others may replay, drop or delete it at the same time; whether it can be replayed at all is seen at rest.
            with contextlib.suppress(UnknownDeadLetter):
                await dead.replay(letter.job_id)


async def _drop(world: World, api: Api, op: Op) -> None:
    for job_id in _targets(world, op):
        world.ledger.jobs[job_id].dropped = True
        try:
            await api.dead.of(job_id).drop(job_id)
        except UnknownDeadLetter:
            return


async def _list(world: World, api: Api, op: Op) -> None:
    erased = {job_id for job_id, job in world.ledger.jobs.items() if job.erased}
    page = await api.listing.page(op.owner, None, 50)
    if any(job.id in erased for job in page.jobs):
        world.ledger.violated("a deleted job is listed")


async def _room(world: World, api: Api, op: Op) -> None:
    for number in range(len(api.partitions)):
        for owner in sorted({op.owner for op in world.plan.ops}):
            await room.check(world, api, number, owner)


_HANDLERS: dict[str, Handler] = {
    "upload": upload,
    "delete": _delete,
    "status": _status,
    "replay": _replay,
    "drop": _drop,
    "list": _list,
    "room": _room,
    "stream": live.begin,
    "stream_end": live.end,
    "batch": batches.begin,
    "batch_cancel": batches.cancel,
}
