"""What has to be true once nothing is left to do."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from service.contracts import JobClass, JobState
from service.errors import UnknownDeadLetter
from service.queue.clip_routes import masked_route_of, route_of
from service.queue.codec import Outcome
from service.queue.idempotency import Earlier
from service.queue.partitions import PerPartition
from service.queue.redis_keys import GROUP, RedisKeys
from tests.fixtures.keyspace import lasting, miscounted
from tests.simulation import batches, live
from tests.simulation.backend import SPEC, expected, said
from tests.simulation.client import MOST_REQUESTS
from tests.simulation.clock import EPOCH
from tests.simulation.ledger import Job

if TYPE_CHECKING:
    from tests.simulation.world import World

LATE_S = 12.0
"""Longer than any stall: how long after its deadline a job may still be open"""
SOON_S = 5.0
"""A job with less time than this may expire when a worker has just died"""
LONG_S = 1_000_000.0


def streams(keys: PerPartition[RedisKeys]) -> list[str]:
    """The streams of clips in all partitions."""
    routes = (SPEC.name, route_of(SPEC), masked_route_of(SPEC))
    return [of.clips(route, job_class) for of in keys for route in routes for job_class in JobClass]


def entries(world: World) -> int:
    """Clips that wait or are being scored."""
    return sum(world.server.send([("XLEN", stream) for stream in streams(world.keys)]))


def busy(world: World) -> bool:
    """Whether something is left that a process will still do, or that runs out soon."""
    server = world.server
    server.send(server.pass_time(world.loop.now))
    waiting = 0 if world.plan.unattended else entries(world)
    # Room that nobody renews lapses, and a claim too.
    reserved = _reserved(world)
    claims = any(server.one("GET", key).startswith(b"open:") for key in _keys(world, "idempotency"))
    open_jobs = [("ZCARD", key) for keys in world.keys for key in (keys.deadlines, keys.webhooks)]
    return bool(waiting or reserved or claims or sum(server.send(open_jobs)) or live.busy(world) or batches.busy(world))


def check(world: World) -> None:
    """Compare what Redis holds with what clients were told."""
    world.server.send(world.server.pass_time(world.loop.now))
    letters = {fields["job_id"] for fields in _letters(world)}
    for job_id, job in world.ledger.jobs.items():
        _check_job(world, job_id, job, letters)
    for number, told in world.ledger.told.items():
        if any(job_id not in world.ledger.jobs for job_id in told):
            world.ledger.violated(f"request {number} was told of a job that nobody made")
    _check_keys(world)
    _check_reservations(world)
    _check_fleet(world)
    live.check(world)
    batches.check(world)
    if not world.plan.unattended:
        _check_leftovers(world, letters)
    for spent in world.ledger.spent.values():
        if len([at for at in spent if at < spent[0] + 59]) > MOST_REQUESTS:
            world.ledger.violated("more requests passed than the quota allows")


def ends(world: World) -> Counter[str]:
    """How many jobs, lines of batches and live streams ended in each way; jobs with evidence apart."""
    found: Counter[str] = Counter()
    for job_id, job in world.ledger.jobs.items():
        facts = world.server.one("HMGET", world.keys.of(job_id).job(job_id), "total", "finished", "state")
        total, finished, state = (None if fact is None else fact.decode() for fact in facts)
        how = "never accepted" if total is None else "cancelled" if finished == "cancelled" else state or "open"
        found[f"{how} with evidence" if job.op.evidence else how] += 1
    for batch_id in world.ledger.batches:
        for how in ("succeeded", "failed", "cancelled"):
            count = world.server.one("HGET", world.keys.of(batch_id).batch(batch_id), how)
            found[f"lines of batches {how}"] += int(count or 0)
    for stream_id in world.ledger.streams:
        ended = world.server.one("HGET", world.keys.of(stream_id).live(stream_id), "ended")
        found[f"live streams: {ended.decode() if ended else 'never begun'}"] += 1
    return found


def check_end_of_lives(world: World) -> None:
    """Once every life is over nothing is left but empty lists."""
    world.server.send(world.server.pass_time(world.loop.now + LONG_S))
    known = {*(key for keys in world.keys for key in lasting(keys)), *streams(world.keys), "simulation:ms"}
    left = [key.decode() for key in world.server.one("KEYS", "*") if key.decode() not in known]
    if left:
        world.ledger.violated(f"left for ever: {', '.join(sorted(_kind(key) for key in left))}")


async def replay_all(world: World) -> list[str]:
    """Replay every dead letter that is listed; each of them can be."""
    [api, *_] = world.apis
    replayed = []
    for dead in api.dead:
        for letter in await dead.letters():
            job = world.ledger.jobs[letter.job_id]
            job.replays += 1
            try:
                await dead.replay(letter.job_id)
                replayed.append(letter.job_id)
            except UnknownDeadLetter:
                world.ledger.violated("a dead letter that is listed cannot be replayed")
    return replayed


async def check_claims(world: World) -> None:
    """An Idempotency-Key leads to a job that was not deleted, or is free."""
    [api, *_] = world.apis
    for owner, key in sorted({(op.owner, op.key) for op in world.plan.ops if op.key is not None}):
        found = await api.admission.earlier(key, owner)
        if isinstance(found, Earlier) and world.ledger.jobs[found.job_id].erased:
            world.ledger.violated("an Idempotency-Key leads to a deleted job")


def check_replayed(world: World, replayed: list[str]) -> None:
    """What was replayed in peace has succeeded."""
    # An update may have been taken back: entries that nobody can read any more end by their deadline.
    readable = any(worker.masks for worker in world.workers)
    for job_id in replayed:
        op = world.ledger.jobs[job_id].op
        if op.deadline_s < SOON_S or (op.evidence and not readable):
            continue
        data = world.server.one("GET", world.keys.of(job_id).outcome(job_id))
        if data is None or Outcome.decode(data).state is not JobState.SUCCEEDED:
            world.ledger.violated("a job that was replayed in peace did not succeed")


def _check_job(world: World, job_id: str, job: Job, letters: set[str]) -> None:
    violated, server, keys = world.ledger.violated, world.server, world.keys.of(job_id)
    facts = {name.decode(): value.decode() for name, value in server.one("HGETALL", keys.job(job_id)).items()}
    data = server.one("GET", keys.outcome(job_id))
    if not facts:
        if job.promised:
            violated("an accepted job is lost")
        return
    finished = facts.get("finished")
    if job.erased and finished != "cancelled":
        violated("a deleted job came back")
    if finished == "cancelled":
        if job_id in letters or server.one("EXISTS", keys.dead_job(job_id)):
            violated("a letter of a deleted job is kept")
        if not job.being_erased and job.promised:
            violated("a job is deleted though nobody deleted it")
        if data is not None or server.one("EXISTS", keys.webhook(job_id)):
            violated("something of a deleted job came back")
        return
    if finished is None or data is None:
        violated("a job never ended")
        return
    outcome = Outcome.decode(data)
    _check_events(world, job_id, job, outcome.state)
    _check_webhook(world, job_id, job, outcome.state)
    if outcome.result is not None:
        if said(outcome.result) != said(expected(job.record, job.op.body)):
            violated("a job has a wrong result")
    # One that dies before its last clip came has none: it could not be replayed.
    if outcome.state is JobState.FAILED and job_id not in letters and not job.dropped and job.op.stages == "none":
        violated("a failed job is not among the dead letters")


def _check_events(world: World, job_id: str, job: Job, state: JobState) -> None:
    found = [
        (int(entry_id.split(b"-")[0]) / 1000 - EPOCH, fields[fields.index(b"state") + 1].decode())
        for entry_id, fields in world.server.one("XRANGE", world.keys.of(job_id).events(job_id), "-", "+")
    ]
    states = [state for _, state in found]
    if not states or states[-1] != state:
        world.ledger.violated("the last event is not how the job ended")
        return
    ends = [(at, state) for at, state in found if JobState(state).is_final]
    if len(ends) > 1 + job.replays:
        world.ledger.violated("a job ended more often than it began")
    # A process that stood still may bring a job after its deadline; the queue knows of it from then on.
    due_s = max(job.began_s + job.op.deadline_s, found[0][0])
    if not job.replays and ends[0][0] > due_s + LATE_S:
        world.ledger.violated("a job ended long after its deadline")
    if not job.replays and ends[0][1] == JobState.EXPIRED and ends[0][0] < due_s - 0.1:
        world.ledger.violated("a job expired before its deadline")


def _check_webhook(world: World, job_id: str, job: Job, state: JobState) -> None:
    if not job.op.webhook or job.being_erased:
        return
    heard = world.ledger.heard[job_id]
    if not heard:
        world.ledger.violated("a webhook was never told")
    elif max(heard)[1] != state:
        world.ledger.violated("the last word of a webhook is not how the job ended")


def _check_keys(world: World) -> None:
    """One Idempotency-Key leads to one living job."""
    living = defaultdict(set)
    for job_id, job in world.ledger.jobs.items():
        if job.op.key is not None and not job.being_erased:
            there, finished = world.server.one("HMGET", world.keys.of(job_id).job(job_id), "total", "finished")
            if there is not None and finished != b"cancelled":
                living[job.op.owner, job.op.key].add(job_id)
    if any(len(jobs) > 1 for jobs in living.values()):
        world.ledger.violated("one Idempotency-Key made two jobs that both live")


def _check_reservations(world: World) -> None:
    """What is counted as reserved is what the reservations add up to, and the release before sees them all."""
    for keys in world.keys:
        members = [member.decode() for member in world.server.one("ZRANGE", keys.reservations, 0, -1)]
        counts = world.server.one("HGETALL", keys.reservation_counts)
        if miscounted(members, {name.decode(): int(value) for name, value in counts.items()}):
            world.ledger.violated("what is reserved is counted wrong")
        if members != [member.decode() for member in world.server.one("ZRANGE", keys.reserved, 0, -1)]:
            world.ledger.violated("reservations are not among those that the release before reads")


def _check_fleet(world: World) -> None:
    """The sums over the live workers are what they add up to."""
    for keys in world.keys:
        sums: Counter[str] = Counter()
        for share in world.server.one("HGETALL", keys.fleet_shares).values():
            lines = share.decode().splitlines()
            sums.update({name: int(amount) for name, amount in zip(lines[::2], lines[1::2], strict=True)})
        found = world.server.one("HGETALL", keys.fleet_sums)
        if sums != {name.decode(): int(amount) for name, amount in found.items()}:
            world.ledger.violated("the sums over the workers are not what they add up to")


def _check_leftovers(world: World, letters: set[str]) -> None:
    violated, server = world.ledger.violated, world.server
    if entries(world):
        violated("entries are left in the streams")
    for stream in streams(world.keys):
        with contextlib.suppress(Exception):
            if server.one("XPENDING", stream, GROUP)[0]:
                violated("entries are left with a worker")
    if _reserved(world):
        violated("capacity is reserved though no upload is under way")
    for what in ("clip", "scores"):
        owners = {key.decode().partition(f":{what}:")[2].split(":")[0] for key in _keys(world, what)}
        if owners - letters:
            violated(f"{what} of a job are kept that has ended or never began")
    erased = {job_id for job_id, job in world.ledger.jobs.items() if job.erased}
    for key in _keys(world, "result-cache"):
        # One in another partition that cannot be reached is left to its life, and leads to nothing.
        away = world.plan.partitions > 1 and world.scheduler.injected["away"]
        if not away and any(job_id.encode() in (server.one("GET", key) or b"") for job_id in erased):
            violated("a place in the result cache leads to a deleted job")


def _keys(world: World, what: str) -> list[bytes]:
    return [key for keys in world.keys for key in world.server.one("KEYS", f"{keys.prefix}:{what}:*")]


def _reserved(world: World) -> int:
    now = EPOCH + world.loop.now
    return sum(world.server.send([("ZCOUNT", keys.reserved, now, "+inf") for keys in world.keys]))


def _letters(world: World) -> list[dict[str, str]]:
    return [
        dict(_pairs(fields)) for keys in world.keys for _, fields in world.server.one("XRANGE", keys.dead, "-", "+")
    ]


def _pairs(flat: list[bytes]) -> list[tuple[str, str]]:
    texts: list[Any] = [part.decode("utf-8", "replace") for part in flat]
    return list(zip(texts[::2], texts[1::2], strict=True))


def _kind(key: str) -> str:
    return key.rpartition("}")[2].split(":")[1]
