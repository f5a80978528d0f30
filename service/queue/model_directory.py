"""The directory of served models: workers announce their models, the api plans from the announcements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from redis.asyncio import Redis

from service.contracts import JobClass, ModelSpec, WorkerStatus
from service.errors import RETRY_AFTER_S, BackendUnavailable, UnknownModel
from service.queue.clip_routes import masked_route_of, route_of
from service.queue.clock import Clock
from service.queue.connection import translate_redis_errors
from service.queue.fleet import Fleet, share_of
from service.queue.redis_keys import KeyPrefixes, RedisKeys
from service.queue.scripts import Script
from service.queue.turns import Chores

CLEARED_AT_ONCE = 500


class ModelDirectory:
    """Announced models in Redis. Methods raise QueueUnavailable when Redis cannot be reached.

    Attributes:
        clock: measured whenever something is announced or asked, which every process does regularly, and
            by `Clock.time` before a process decides anything by it.
        turns: those of this process among all that are here.
    """

    def __init__(self, redis: Redis, keys: RedisKeys) -> None:
        self.clock = Clock(redis)
        self.turns = Chores(redis, keys)
        self._redis = redis
        self._keys = keys
        fleet = {"fleet": keys.fleet, "shares": keys.fleet_shares, "sums": keys.fleet_sums}
        self._of_worker = {"workers": keys.workers, **fleet}
        self._all = {
            "workers": keys.workers,
            "models": keys.models,
            "routes": keys.routes,
            **fleet,
            "retries": keys.fleet_retries,
        }
        prefixes = KeyPrefixes(keys)
        self._prefixes = {
            "worker_prefix": prefixes.worker,
            "model_prefix": prefixes.model,
            "route_prefix": prefixes.route,
        }
        self._cleared = {
            "model_prefix": prefixes.model,
            "route_prefix": prefixes.route,
            "stream_prefix": prefixes.stream,
            "job_prefix": prefixes.job,
            "count": CLEARED_AT_ONCE,
            "classes": list(JobClass),
        }
        self._announce = Script(redis, "announce")
        self._withdraw = Script(redis, "withdraw")
        self._live = Script(redis, "live")
        self._clear = Script(redis, "clear_streams")

    async def announce(self, specs: Sequence[ModelSpec], status: WorkerStatus, ttl_s: float) -> int:
        """Announce that a live worker serves these models for the next `ttl_s` seconds, with its status.

        Returns the number of live workers, those of the release before included.
        """
        unnamed = {route: "" for spec in specs for route in (spec.name, masked_route_of(spec))}
        by_version = {
            f"{spec.name}:{spec.version}": spec.model_dump_json(exclude={"route"})
            for spec in specs
            # An api of an earlier release, which reads these alone, would make clips in RGB.
            if spec.clip_format == "rgb"
        }
        by_route = {
            route: spec.model_copy(update={"route": route}).model_dump_json()
            for route, spec in ((route_of(spec), spec) for spec in specs)
        } | unnamed
        by_worker = {status.worker: status.model_dump_json()}
        share = "".join(f"{name}\n{amount}\n" for name, amount in sorted(share_of(status).items()))
        with translate_redis_errors():
            announcing = self._announce(
                keys=self._all,
                args={
                    "life_ms": int(ttl_s * 1000),
                    **self._prefixes,
                    "worker_count": len(by_worker),
                    "model_count": len(by_version),
                    "route_count": len(by_route),
                    "worker": status.worker,
                    "share": share,
                    "retry_in_s": status.retry_in_s,
                    "names_and_values": [
                        part for values in (by_worker, by_version, by_route) for pair in values.items() for part in pair
                    ],
                    "open": [*status.models, *status.routes] if status.breaker == "open" else [],
                },
            )
            reply: Any = await self.clock.measured(announcing, lambda reply: reply)
        return int(reply[2])

    async def withdraw(self, worker: str) -> None:
        """Delete the announcement of a worker that stops. Those of its models expire: its peers may serve them too."""
        with translate_redis_errors():
            await self._withdraw(keys={**self._of_worker, "status": self._keys.worker(worker)}, args={"worker": worker})

    async def clear(self) -> None:
        """Delete the streams that no live worker reads, once the jobs of all their entries have ended."""
        keys = self._keys
        with translate_redis_errors():
            await self._clear(keys={"models": keys.models, "routes": keys.routes}, args=self._cleared)

    async def routes(self) -> list[str]:
        """The routes whose streams may exist."""
        with translate_redis_errors():
            names: Any = await self._redis.zrange(self._keys.routes, 0, -1)
        return [name.decode() for name in names]

    async def live(self) -> tuple[list[ModelSpec], Fleet]:
        """The models that live workers serve, by name and newest version first, and the sums over all live workers.

        Of several weights of one version those that most workers serve come first. The cost does not depend on the
        number of workers, except for those of the release before.
        """
        with translate_redis_errors():
            found: Any = await self.clock.measured(
                self._live(keys=self._all, args=self._prefixes), lambda reply: reply[5]
            )
        models, announced, sums, retries, others, _ = found
        now = self.clock.now()
        fleet = Fleet(
            {name: int(amount) for name, amount in _named(sums).items()},
            {name: max(0.0, float(at) - now) for name, at in _named(retries).items()},
        )
        if others:
            fleet = fleet.joined_by(WorkerStatus.model_validate_json(data) for data in others)
        specs = [_spec(data) for data in announced if data]
        routes = {spec.route for spec in specs}
        # Models that only workers of an earlier release serve.
        specs += [spec for spec in map(_spec, models) if route_of(spec) not in routes]
        return _ranked(specs, fleet), fleet

    async def workers(self) -> list[WorkerStatus]:
        """Every live worker: as much work as there are workers."""
        with translate_redis_errors():
            names: Any = await self._redis.zrange(self._keys.workers, 0, -1)
            found: Any = await self._redis.mget([self._keys.worker(name.decode()) for name in names]) if names else ()
        return [WorkerStatus.model_validate_json(data) for data in found if data]

    async def list(self) -> list[ModelSpec]:
        """Every model version that a live worker serves, by name and then newest version first."""
        return (await self.live())[0]

    async def resolve(self, name: str, version: str | None) -> ModelSpec:
        """The named model in the given version, or in its newest.

        Raises BackendUnavailable when no worker serves anything, UnknownModel when none serves this.
        """
        return self.pick(await self.list(), name, version)

    @staticmethod
    def pick(specs: Sequence[ModelSpec], name: str, version: str | None) -> ModelSpec:
        """`resolve` among `specs`, the answer of `list`."""
        if not specs:
            detail = "No worker serves a model now. Try again later."
            raise BackendUnavailable(detail, retry_after_s=RETRY_AFTER_S)
        for spec in specs:
            if spec.name == name and version in (None, spec.version):
                return spec
        served = ", ".join(dict.fromkeys(f"{spec.name} version {spec.version}" for spec in specs))
        wanted = f"Model {name!r}" if version is None else f"Model {name!r} in version {version}"
        detail = f"{wanted} is not served. Served now: {served}."
        raise UnknownModel(detail, actual=name)


def _ranked(specs: Iterable[ModelSpec], fleet: Fleet) -> list[ModelSpec]:
    return sorted(
        specs, key=lambda spec: (spec.name, -int(spec.version), -fleet.serving(spec.route), spec.weights_sha256)
    )


def _named(flat: Sequence[bytes]) -> Mapping[str, bytes]:
    """A reply of HGETALL from within a script."""
    return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


@lru_cache(maxsize=64)
def _spec(data: bytes) -> ModelSpec:
    """Announcements stay the same from heartbeat to heartbeat, and a large model has hundreds of labels."""
    return ModelSpec.model_validate_json(data)
