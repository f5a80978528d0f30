"""Dead letters: jobs given up because of one of their clips, kept for a person to look at and to replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from redis.asyncio import Redis

from service.contracts import DeadLetter, JobRecord
from service.errors import UnknownDeadLetter
from service.queue.clock import NOW, redis_time
from service.queue.codec import Outcome
from service.queue.connection import translate_redis_errors
from service.queue.job_intake import JobTimes, entry_fields
from service.queue.job_scripts import DELETE_LETTERS, ENQUEUE_WEBHOOK, EVENT
from service.queue.redis_keys import LETTER_CREATED_FIELD, RedisKeys

LISTED = 1000

# Fails the job as FINISH does, but keeps record, scores and the clips that were not scored yet.
# KEYS: job, outcome, scores, deadlines, dead stream, dead job, events, due webhooks, webhook of the job.
# ARGV: outcome, result life, tombstone life, life of the letter, channel, job id, prefix of payload keys, clip bytes,
# then the other fields of the letter.
ADD = (
    NOW
    + EVENT
    + ENQUEUE_WEBHOOK
    + """
redis.call('ZREM', KEYS[4], ARGV[6])
local job = redis.call('HMGET', KEYS[1], 'total', 'finished', 'record')
if not job[1] or job[2] then return 0 end
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'EX', ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'finished', 'dead', 'state', 'failed')
redis.call('HDEL', KEYS[1], 'record')
redis.call('EXPIRE', KEYS[1], math.max(ARGV[3], ARGV[4]))
redis.call('EXPIRE', KEYS[3], ARGV[4])
local kept = 0
for clip = 0, job[1] - 1 do kept = kept + redis.call('EXPIRE', ARGV[7] .. clip, ARGV[4]) end
redis.call('HSET', KEYS[6], 'record', job[3], 'total', job[1])
redis.call('EXPIRE', KEYS[6], ARGV[4])
redis.call('XADD', KEYS[5], '*', 'clip_bytes', kept * ARGV[8], 'buried_at', now, unpack(ARGV, 9))
event(KEYS[7], ARGV[2], 'failed', redis.call('HLEN', KEYS[3]))
enqueue_webhook(KEYS[1], ARGV[6], 'failed', KEYS[8], KEYS[9], ARGV[3])
redis.call('PUBLISH', ARGV[5], ARGV[6])
return 1
"""
)

# What was kept goes, and the job stays failed, unless it was opened again or erased meanwhile.
DISCARD_KEPT = """
local function discard_kept(prefix, id)
  local job = prefix .. ':job:' .. id
  if redis.call('HGET', job, 'finished') == 'dead' then
    redis.call('HSET', job, 'finished', '1')
    for clip = 0, redis.call('HGET', job, 'total') - 1 do
      redis.call('UNLINK', prefix .. ':clip:' .. id .. ':' .. clip)
    end
    redis.call('UNLINK', prefix .. ':dead:' .. id, prefix .. ':scores:' .. id)
  end
end
"""

# ARGV: life of a letter, letters to keep, bytes to keep, key prefix.
TRIM = (
    NOW
    + DISCARD_KEPT
    + """
local letters = redis.call('XREVRANGE', KEYS[1], '+', '-')
local bytes, count = 0, 0
for _, letter in ipairs(letters) do
  local facts = {}
  for i = 1, #letter[2], 2 do facts[letter[2][i]] = letter[2][i + 1] end
  count = count + 1
  bytes = bytes + facts['clip_bytes']
  if count > tonumber(ARGV[2]) or bytes > tonumber(ARGV[3]) or letter[1]:match('%d+') / 1000 < now - ARGV[1] then
    discard_kept(ARGV[4], facts['job_id'])
    redis.call('XDEL', KEYS[1], letter[1])
  end
end
"""
)

# KEYS: dead stream. ARGV: job id, key prefix.
DROP = (
    DISCARD_KEPT
    + DELETE_LETTERS
    + """
discard_kept(ARGV[2], ARGV[1])
delete_letters(KEYS[1], ARGV[1])
"""
)

# The clips that were never scored go back into the queue, and the job is open again. Asked again, because its answer
# was lost, it answers the same.
# KEYS: job, outcome, scores, deadlines, dead stream, dead job, events, clip stream, routes.
# ARGV: job id, record, deadline, life of payloads, prefix of payload keys, route, name of this replay, number of fields
# in an entry, the fields of one entry after another.
REPLAY = (
    EVENT
    + DELETE_LETTERS
    + """
local job = redis.call('HMGET', KEYS[1], 'finished', 'total', 'replay', 'replayed')
if job[3] == ARGV[7] then return tonumber(job[4]) end
if job[1] ~= 'dead' then return 0 end
local total, step = tonumber(job[2]), tonumber(ARGV[8])
local missing = {}
for clip = 0, total - 1 do
  if redis.call('HEXISTS', KEYS[3], clip) == 0 then
    if redis.call('EXISTS', ARGV[5] .. clip) == 0 then return 0 end
    missing[#missing + 1] = clip
  end
end
redis.call('DEL', KEYS[2])
redis.call('HDEL', KEYS[1], 'finished', 'state')
redis.call('HSET', KEYS[1], 'record', ARGV[2], 'deadline_at', ARGV[3], 'replay', ARGV[7], 'replayed', #missing)
redis.call('ZADD', KEYS[4], ARGV[3], ARGV[1])
redis.call('ZADD', KEYS[9], 0, ARGV[6])
for _, clip in ipairs(missing) do
  redis.call('EXPIRE', ARGV[5] .. clip, ARGV[4])
  local first = 9 + clip * step
  redis.call('XADD', KEYS[8], '*', unpack(ARGV, first, first + step - 1))
end
redis.call('EXPIRE', KEYS[3], ARGV[4])
delete_letters(KEYS[5], ARGV[1])
redis.call('DEL', KEYS[6])
event(KEYS[7], ARGV[4], 'queued', total - #missing)
return #missing
"""
)


@dataclass(frozen=True)
class DeadLetterLimits:
    """How long dead letters are kept, and how many, and how many bytes of clips with them."""

    dead_letter_ttl_s: int
    dead_letter_max_jobs: int
    dead_letter_max_bytes: int


class DeadLetters:
    """The dead letters of one installation. Methods raise QueueUnavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, keys: RedisKeys, times: JobTimes, limits: DeadLetterLimits) -> None:
        self._redis = redis
        self._keys = keys
        self._times = times
        self._limits = limits
        self._add = redis.register_script(ADD)
        self._trim = redis.register_script(TRIM)
        self._drop = redis.register_script(DROP)
        self._replay = redis.register_script(REPLAY)

    async def add(self, letter: DeadLetter, outcome: Outcome) -> bool:
        """End the job with `outcome` and keep it for a replay; False when it is unknown or has ended already.

        `letter.clip_bytes` is the size of one clip; what is stored is the size of all that are kept, and as
        `created_at` the time of Redis.
        """
        keys, job_id = self._keys, letter.job_id
        fields = letter.model_dump(exclude={"clip_bytes", "created_at"})
        with translate_redis_errors():
            added = await self._add(
                keys=[*self._of_job(job_id), keys.webhooks, keys.webhook(job_id)],
                args=[
                    outcome.encode(),
                    self._times.result_ttl_s,
                    self._times.tombstone_ttl_s,
                    self._limits.dead_letter_ttl_s,
                    keys.finished,
                    job_id,
                    keys.payload(job_id, ""),
                    letter.clip_bytes,
                    *(part for pair in fields.items() for part in pair),
                ],
            )
        await self.trim()
        return bool(added)

    async def trim(self) -> None:
        """Forget letters that are too old or too many."""
        limits = self._limits
        with translate_redis_errors():
            await self._trim(
                keys=[self._keys.dead],
                args=[
                    limits.dead_letter_ttl_s,
                    limits.dead_letter_max_jobs,
                    limits.dead_letter_max_bytes,
                    self._keys.prefix,
                ],
            )

    async def letters(self) -> list[DeadLetter]:
        """All letters, newest first."""
        await self.trim()
        return await self._letters()

    async def show(self, job_id: str) -> tuple[DeadLetter, JobRecord]:
        """The letter of one job and the job's record. Raises UnknownDeadLetter."""
        letter = await self._find(job_id)
        return letter, await self._record(job_id)

    async def replay(self, job_id: str) -> int:
        """Open the job again with its whole time and queue the clips that have no scores; returns their number.

        Raises UnknownDeadLetter where there is no such letter, or a clip that is needed is gone.
        """
        keys = self._keys
        await self._find(job_id)
        old = await self._record(job_id)
        with translate_redis_errors():
            now = await redis_time(self._redis)
        record = old.model_copy(update={"enqueued_at": now, "deadline_at": now + (old.deadline_at - old.created_at)})
        entries = [entry_fields(record, clip) for clip in range(len(record.decoded.clips))]
        route = record.spec.route or record.spec.name
        with translate_redis_errors():
            queued = await self._replay(
                keys=[*self._of_job(job_id), keys.clips(route, record.job_class), keys.routes],
                args=[
                    job_id,
                    record.model_dump_json(),
                    record.deadline_at,
                    self._times.payload_ttl_s,
                    keys.payload(job_id, ""),
                    route,
                    uuid4().hex,
                    2 * len(entries[0]),
                    *(part for entry in entries for pair in entry.items() for part in pair),
                ],
            )
        if not queued:
            detail = f"Job {job_id} cannot be replayed: some of its unscored clips are gone."
            raise UnknownDeadLetter(detail, actual=job_id)
        return int(queued)

    async def drop(self, job_id: str) -> None:
        """Forget the letter and erase the clips kept with it; the job stays failed. Raises UnknownDeadLetter."""
        await self._find(job_id)
        with translate_redis_errors():
            await self._drop(keys=[self._keys.dead], args=[job_id, self._keys.prefix])

    def _of_job(self, job_id: str) -> list[str]:
        """The first seven keys of ADD and of REPLAY."""
        keys = self._keys
        return [
            keys.job(job_id),
            keys.outcome(job_id),
            keys.scores(job_id),
            keys.deadlines,
            keys.dead,
            keys.dead_job(job_id),
            keys.events(job_id),
        ]

    async def _record(self, job_id: str) -> JobRecord:
        with translate_redis_errors():
            data: Any = await self._redis.hget(self._keys.dead_job(job_id), "record")
        if data is None:
            raise UnknownDeadLetter(f"The record of job {job_id} is gone.", actual=job_id)
        return JobRecord.model_validate_json(data)

    async def _letters(self) -> list[DeadLetter]:
        with translate_redis_errors():
            entries: Any = await self._redis.xrevrange(self._keys.dead, count=LISTED)
        return [_letter(fields) for _, fields in entries]

    async def _find(self, job_id: str) -> DeadLetter:
        for letter in await self._letters():
            if letter.job_id == job_id:
                return letter
        raise UnknownDeadLetter(f"No dead letter is kept for job {job_id!r}.", actual=job_id)


def _letter(fields: Mapping[bytes, bytes]) -> DeadLetter:
    named = {name.decode(): value.decode() for name, value in fields.items()}
    return DeadLetter.model_validate({**named, "created_at": named[LETTER_CREATED_FIELD]})
