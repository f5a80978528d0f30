"""What `vidtr doctor` says of Redis: whether it answers, and which accepted jobs it keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from service.cli.doctor_findings import Finding
from service.errors import QueueUnavailable
from service.redis_url import RedisUrl
from service.settings import Settings

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from service.queue.partitions import Partition

TIMEOUT_S = 5.0
NEWER = "take a server from 7.2 on, such as that of `pip install 'vidtr-serve[redis-server]'`"


def redis(settings: Settings) -> Iterator[Finding]:
    """The server of `redis_url`, or one that `vidtr up` can start."""
    if "redis_url" in settings.model_fields_set:
        yield from asyncio.run(_running(settings))
        return
    from service.local.process import LocalServerError
    from service.local.redis import WAITS_FOR_DISK, find_redis_server, server_version

    try:
        binary = find_redis_server()
    except LocalServerError as error:
        yield Finding("redis", "failed", str(error), "install one of these, or set VIDTR_REDIS_URL to one that runs")
        return
    yield Finding("redis", "ok", f"`vidtr up` starts {binary}")
    if server_version(binary) < WAITS_FOR_DISK:
        found = "the last moments are lost: this Redis has no WAITAOF, which came with 7.2"
        yield Finding("jobs after a crash of redis", "warning", found, NEWER)


async def _running(settings: Settings) -> list[Finding]:
    """What is to be said of each server, with the partitions that it has where there are several."""
    from service.queue.partitions import QueueAddress, close

    parts = settings.subset(QueueAddress).connect("vidtr-doctor", socket_timeout_s=TIMEOUT_S)
    try:
        servers: dict[str, list[int]] = {}
        for number, name in enumerate(await asyncio.gather(*map(_server_of, parts))):
            servers.setdefault(name, []).append(number)
        found = await asyncio.gather(*(_findings(settings, parts[numbers[0]]) for numbers in servers.values()))
    finally:
        await close(parts)
    if len(parts) == 1:
        return found[0]
    return [
        replace(one, name=f"{one.name}, {_listed(numbers)}")
        for numbers, of_server in zip(servers.values(), found, strict=True)
        for one in of_server
    ]


async def _server_of(part: Partition) -> str:
    """What tells the server that has the keys of a partition from others; why there is none where none is reached."""
    from service.queue.connection import translate_redis_errors

    try:
        with translate_redis_errors():
            return str((await part.redis.info("server"))["run_id"])
    except QueueUnavailable as error:
        return error.detail


async def _findings(settings: Settings, part: Partition) -> list[Finding]:
    from service.queue.connection import translate_redis_errors

    try:
        with translate_redis_errors():
            info = await part.redis.info()
        return [*_server(settings, info), *await _kept(settings, part.redis, part.keys, info)]
    except QueueUnavailable as error:
        advice = "is it started, and are VIDTR_REDIS_URL's host, port and password right?"
        return [Finding("redis", "failed", error.detail, advice)]


def _listed(numbers: list[int]) -> str:
    return f"partition{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _server(settings: Settings, info: dict[str, Any]) -> Iterator[Finding]:
    url = RedisUrl.parse(settings.redis_url)
    yield Finding("redis", "ok", f"version {info['redis_version']} answers, {url.shown}")
    if url.kind == "server" and info.get("redis_mode") == "cluster":
        found = "the server is part of a cluster, and may lose these keys to another server"
        yield Finding("redis address", "failed", found, "begin VIDTR_REDIS_URL with redis+cluster://")
    if (policy := info.get("maxmemory_policy", "noeviction")) != "noeviction":
        advice = "set `maxmemory-policy noeviction`: an evicted key is a lost job, a full Redis is an honest 503"
        yield Finding("redis memory", "failed", f"the policy is {policy}", advice)
    needed = settings.max_queue_bytes + settings.dead_letter_max_bytes
    if 0 < (budget := int(info.get("maxmemory", 0))) < needed:
        found = f"maxmemory is {budget} bytes, max_queue_bytes and dead_letter_max_bytes together are {needed}"
        advice = "raise `maxmemory`, or lower VIDTR_MAX_QUEUE_BYTES: Redis would be full before the queue is"
        yield Finding("redis memory", "warning", found, advice)
    if not info.get("aof_enabled"):
        advice = "set `appendonly yes` where accepted jobs must survive a restart"
        yield Finding("redis persistence", "warning", "no append-only file", advice)


async def _kept(settings: Settings, client: Redis, keys: Any, info: dict[str, Any]) -> list[Finding]:
    """Which accepted jobs survive what."""
    from service.queue.durability import Durability, DurabilityConfig
    from service.queue.write_probe import check_writable

    await check_writable(client, keys)
    config = settings.subset(DurabilityConfig)
    alone = DurabilityConfig(config.redis_waitaof_s)
    return [
        Finding("jobs after a restart of vidtr", "ok", "kept: they are in Redis"),
        _after_crash(await Durability(client, keys, alone).unavailable_reason(), info),
        _after_failover(settings, await Durability(client, keys, config).unavailable_reason(), info),
    ]


def _after_crash(missing: str | None, info: dict[str, Any]) -> Finding:
    name = "jobs after a crash of redis"
    if not info.get("aof_enabled"):
        return Finding(name, "warning", "lost: Redis keeps no append-only file", "set `appendonly yes`")
    if missing is not None:
        advice = NEWER if "7.2" in missing else "set VIDTR_REDIS_WAITAOF_S, and let the user of VIDTR_REDIS_URL wait"
        return Finding(name, "warning", f"the last moments are lost: {missing}", advice)
    return Finding(name, "ok", "kept: a 202 waits until its job is in the append-only file")


def _after_failover(settings: Settings, missing: str | None, info: dict[str, Any]) -> Finding:
    name = "jobs after a failover of redis"
    kind, wanted, attached = RedisUrl.parse(settings.redis_url).kind, settings.redis_wait_replicas, _replicas(info)
    if wanted and missing is not None:
        advice = "start the replicas, see that they have an append-only file too, or lower VIDTR_REDIS_WAIT_REPLICAS"
        return Finding(name, "failed", f"no 202 is given: {missing}", advice)
    if 0 < wanted < attached:
        advice = f"set VIDTR_REDIS_WAIT_REPLICAS={attached} where a replica may take over while the primary still runs"
        found = f"kept after a crash, perhaps lost after a planned one: a 202 waits for {wanted} of {attached} replicas"
        return Finding(name, "warning", found, advice)
    if wanted:
        return Finding(name, "ok", f"kept: a 202 waits for {wanted} of {attached} replicas")
    if attached:
        advice = f"set VIDTR_REDIS_WAIT_REPLICAS={attached}"
        found = f"the last moments are lost: a 202 waits for none of the replicas, of which there are {attached}"
        return Finding(name, "warning", found, advice)
    if kind == "server":
        return Finding(name, "ok", "there is none: no replica is attached, and uploads wait for this server")
    return Finding(name, "warning", "no replica is attached that could take over", "start the replicas")


def _replicas(info: dict[str, Any]) -> int:
    return int(info.get("connected_slaves", 0))
