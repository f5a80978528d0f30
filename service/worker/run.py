"""Runs one worker: connects, starts the backend, serves until a signal stops it, and cleans up."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from uuid import uuid4

from service.inference.backend import Backend
from service.queue.clip_stream import ClipStream
from service.queue.connection import RedisConfig, connect_to
from service.queue.dead_letters import DeadLetterConfig, DeadLetters
from service.queue.job_intake import JobTtlConfig
from service.queue.job_store import JobStore
from service.queue.model_directory import ModelDirectory
from service.queue.redis_keys import RedisKeys
from service.worker.completion import Completion
from service.worker.config import WorkerConfig
from service.worker.watchdog import Watchdog
from service.worker.worker import Worker


async def run_worker(
    backend: Backend,
    config: WorkerConfig,
    server: RedisConfig,
    prefix: str,
    times: JobTtlConfig,
    limits: DeadLetterConfig,
    watchdog: Watchdog,
) -> None:
    """Serve until SIGTERM or SIGINT; `watchdog` shows whether it makes progress."""
    # Never reused: an old process of the same name may still hold entries.
    consumer = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
    keys = RedisKeys(prefix)
    redis = connect_to(server, keys, name="vidtr-worker")
    loop = asyncio.get_running_loop()
    try:
        await backend.start()
        stream = ClipStream(redis, keys, consumer)
        directory, store = ModelDirectory(redis, keys), JobStore(redis, keys, times)
        completion = Completion(store, stream, DeadLetters(redis, keys, times, limits), directory.clock)
        worker = Worker(config, backend, stream, directory, completion, watchdog)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.stop)
        await worker.run()
    finally:
        await backend.close()
        await redis.aclose()
