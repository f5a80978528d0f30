"""Batches: lines that API processes make jobs of, one process at a time, until each line has one outcome."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from service.api.auth import Principal
from service.api.batches.batches import Batches, BatchesConfig
from service.api.batches.line import Lines
from service.api.shares import Shares
from service.api.submission import Submitted
from service.contracts import BatchLine, BatchRecord, JobRequest, LineOutcome
from service.queue.batch_store import BatchConfig, BatchStore
from service.queue.partitions import job_id_in
from service.queue.quota import QuotaLimits
from tests.simulation.ledger import Batch
from tests.simulation.plan import Op

if TYPE_CHECKING:
    from tests.simulation.processes import Api
    from tests.simulation.world import World

Upload = Callable[["World", "Api", Op], Awaitable[None]]

OWNER = ""
HOOK_URL = "https://client.example/batch"
DEADLINE_S, KEPT_S, MOST_OPEN = 30, 3600, 2
CONFIG = BatchConfig(batch_deadline_s=DEADLINE_S, batch_ttl_s=KEPT_S, max_open_batches=MOST_OPEN)
BEAT_S, LOOK_S = 0.5, 1.0
LINES_AT_A_TIME = 2


class SimulatedLines(Lines):
    """Lines whose jobs come by the way of the simulation's uploads."""

    def __init__(self, world: World, api: Api, upload: Upload) -> None:
        super().__init__(cast("Any", None), api.stores, api.buses, 8.0, KEPT_S)
        self._world = world
        self._api = api
        self._upload = upload

    async def cancel(self, job: str) -> None:
        self._world.ledger.jobs[job].being_erased = True
        await super().cancel(job)
        self._world.ledger.jobs[job].erased = True

    async def _submit(self, batch: BatchRecord, caller: Principal, line: BatchLine) -> Submitted:
        op = _upload_of(self._world.ledger.batches[batch.id].op, line.line, batch.id)
        await self._upload(self._world, self._api, op)
        job_id = self._world.ledger.told[op.number][-1]
        return Submitted(await self._api.stores.of(job_id).status(job_id), keyed=True)


class AnyCaller:
    """Every caller is still known."""

    def again(self, owner: str, tenant: str, identity: str) -> Principal:
        """The caller."""
        return Principal(owner, tenant, identity, QuotaLimits())


def driven_by(world: World, api: Api, upload: Upload) -> Batches:
    """What one API process has to do with batches."""
    nothing = cast("Any", None)
    return Batches(
        BatchesConfig(LINES_AT_A_TIME, DEADLINE_S, KEPT_S),
        nothing,
        api.partitions.map(lambda of: BatchStore(of.redis, of.keys, CONFIG)),
        nothing,
        api.clocks,
        SimulatedLines(world, api, upload),
        nothing,
        nothing,
        cast("Any", AnyCaller()),
        nothing,
        nothing,
        Shares(1.0),
        lambda: False,
        BEAT_S,
    )


async def begin(world: World, api: Api, op: Op) -> None:
    """Open a batch. A client repeats it with the same id."""
    count = len(world.keys)
    batch_id = job_id_in(world.keys.home_number(OWNER), count, f"{op.number + 1:032x}")
    webhook = HOOK_URL if op.webhook else None
    record = BatchRecord(
        id=batch_id, owner=OWNER, key_name="", identity=OWNER, digest="d", total=op.clips, webhook=webhook
    )
    batch = world.ledger.batches.setdefault(batch_id, Batch(op))
    url = "https://client.example/video"
    lines = [BatchLine(line=number, url=url, options=JobRequest()) for number in range(1, op.clips + 1)]
    await api.batches.of(batch_id).open(record, lines)
    batch.promised = True


async def cancel(world: World, api: Api, op: Op) -> None:
    """Cancel the batch of a request by way of any API."""
    for batch_id, batch in [*world.ledger.batches.items()]:
        if batch.op.number == op.target and batch.promised:
            batch.being_cancelled = True
            await api.batches.cancel(await api.batches.of(batch_id).facts(batch_id))


def _upload_of(op: Op, line: int, batch_id: str) -> Op:
    """The upload that a line of a batch stands for."""
    return Op(
        1000 * (op.number + 1) + line,
        "upload",
        0.0,
        0,
        owner=OWNER,
        key=f"batch {batch_id} {line}",
        bad=0 if (line + op.number) % 4 == 0 else None,
        body=line % 3,
        cached=False,
    )


def busy(world: World) -> bool:
    """Whether a batch is open, or its end still to be told."""
    return any(world.server.one("ZCARD", key) for keys in world.keys for key in (keys.batches, keys.batch_webhooks))


def check(world: World) -> None:
    """Each line of each batch has one outcome, and its job says the same."""
    for batch_id, batch in world.ledger.batches.items():
        _check(world, batch_id, batch)


def _check(world: World, batch_id: str, batch: Batch) -> None:
    violated, server, keys = world.ledger.violated, world.server, world.keys.of(batch_id)
    facts = {name.decode(): value.decode() for name, value in server.one("HGETALL", keys.batch(batch_id)).items()}
    if not facts:
        if batch.promised:
            violated("an accepted batch is lost")
        return
    outcomes = [
        LineOutcome.model_validate_json(data)
        for line, data in server.one("HGETALL", keys.batch_outcomes(batch_id)).items()
        if line.isdigit()
    ]
    counts = {state: int(facts.get(state, "0")) for state in ("succeeded", "failed", "cancelled")}
    if facts["left"] != "0" or len(outcomes) != batch.op.clips or "ended_at" not in facts:
        violated("a batch never ended")
        return
    if counts != {state: sum(one.status == state for one in outcomes) for state in counts}:
        violated("the lines of a batch are counted wrong")
    if server.one("ZCARD", keys.batch_ended(batch_id)) != batch.op.clips or server.one(
        "HLEN", keys.batch_running(batch_id)
    ):
        violated("lines of a batch that has ended are not all among those that have")
    jobs = [one.job for one in outcomes if one.job is not None]
    if len(set(jobs)) != len(jobs):
        violated("two lines of a batch have one job")
    for one in outcomes:
        state = one.job and server.one("HGET", world.keys.of(one.job).job(one.job), "state")
        if one.status == "succeeded" and state != b"succeeded":
            violated("a line of a batch succeeded without its job")
    if counts["cancelled"] and not batch.being_cancelled:
        violated("lines of a batch are cancelled though nobody cancelled it")
    if batch.op.webhook and not world.ledger.heard[batch_id]:
        violated("the webhook of a batch was never told")
