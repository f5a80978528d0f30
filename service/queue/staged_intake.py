"""Jobs in stages: accepted with their first clips, while the video of the others is still being decoded."""

from __future__ import annotations

import math

from redis.asyncio import Redis

from service.contracts import JobRecord
from service.queue.capacity import Reservation
from service.queue.connection import translate_redis_errors
from service.queue.job_intake import UNACCEPTED_SHARE, Clips, JobIntake, JobTtlConfig, Stage, clips_gone, entry_fields
from service.queue.redis_keys import RedisKeys
from service.queue.scripts import Script


class StagedIntake(JobIntake):
    """Accepts jobs, at once or in stages.

    The number of a job's clips is known from the first stage on, so that it cannot end before the last. Until then its
    record has the plan of its windows; the record that its answer is made of comes with the last clips.
    """

    def __init__(self, redis: Redis, keys: RedisKeys, times: JobTtlConfig) -> None:
        super().__init__(redis, keys, times)
        self._add_clips = Script(redis, "add_clips")

    async def add_clips(
        self, record: JobRecord, clips: Clips, *, first: int, reservation: Reservation, stage: Stage | None
    ) -> bool:
        """Queue further clips of a job that was accepted with a `Stage`; False where it has ended meanwhile.

        `clips` are their raw bytes, `first` is the number of the first. What stays of the `reservation` is in `stage`;
        without one these are the last clips, and the record that the answer is made of is `record`.

        Raises QueueUnavailable; it does so too when the reservation lapsed and took clips with it.
        """
        keys, times = self._keys, self._times
        clip_bytes = math.prod(record.decoded.clip_shape)
        numbers = range(first, first + len(clips) // clip_bytes)
        entries = [entry_fields(record, clip) for clip in numbers]
        await self.put_payloads(record.id, clips, clip_bytes, UNACCEPTED_SHARE * times.reservation_ttl_s, first)
        route = record.spec.route or record.spec.name
        with translate_redis_errors():
            added = await self._add_clips(
                keys={
                    "job": keys.job(record.id),
                    "stream": keys.clips(route, record.job_class),
                    "reserved": keys.reserved,
                    "reservations": keys.reservations,
                    "counts": keys.reservation_counts,
                    "held": keys.held(reservation.digest),
                    "held_sums": keys.held_sums(reservation.digest),
                    "routes": keys.routes,
                    "payload_keys": [keys.payload(record.id, clip) for clip in numbers],
                },
                args={
                    "id": record.id,
                    "first": first,
                    "record": "" if stage else record.model_dump_json(),
                    "reservation": reservation.member,
                    "left": stage.left.member if stage else "",
                    "payload_life": times.payload_ttl_s,
                    "job_life": times.tombstone_ttl_s,
                    "route": route,
                    "entry_fields": 2 * len(entries[0]),
                    "fields": [part for fields in entries for pair in fields.items() for part in pair],
                },
            )
        if added < 0:
            raise clips_gone(times)
        return bool(added)
