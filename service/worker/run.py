"""Runs one worker: connects, starts the backend, serves until a signal stops it, and cleans up."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from uuid import uuid4

import structlog

from service.inference.backend import Backend
from service.queue.clip_stream import ClipStream
from service.queue.dead_letters import DeadLetterConfig, DeadLetters
from service.queue.job_intake import JobTtlConfig
from service.queue.job_store import JobStore
from service.queue.model_directory import ModelDirectory
from service.queue.partitions import Partition, QueueAddress, close
from service.signatures import Signer
from service.steady_heap import keep_apart
from service.worker.completion import Completion
from service.worker.config import WorkerConfig
from service.worker.partition_source import Source
from service.worker.watchdog import Watchdog
from service.worker.worker import Worker

log = structlog.get_logger()


async def run_worker(
    backend: Backend,
    config: WorkerConfig,
    address: QueueAddress,
    times: JobTtlConfig,
    limits: DeadLetterConfig,
    watchdog: Watchdog,
    signer: Signer | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP; `watchdog` shows whether it makes progress. `signer` signs the answers."""
    # Never reused: an old process of the same name may still hold entries.
    consumer = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
    partitions = address.connect("vidtr-worker")
    share = limits.share(len(partitions))

    def source(of: Partition) -> Source:
        stream, directory = ClipStream(of.redis, of.keys, consumer), ModelDirectory(of.redis, of.keys)
        dead = DeadLetters(of.redis, of.keys, times, share)
        completion = Completion(JobStore(of.redis, of.keys, times), stream, dead, directory.clock, signer)
        return Source(stream, directory, completion, config.worker_lease_s)

    if signer is not None:
        log.info("answers_signed", key=signer.public.id)
    loop = asyncio.get_running_loop()
    try:
        await backend.start()
        keep_apart()
        worker = Worker(config, backend, partitions.map(source), watchdog)
        stopping = {signal.SIGTERM, signal.SIGINT}
        # The end of a terminal, where `nohup` has not had it ignored.
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            stopping.add(signal.SIGHUP)
        for number in stopping:
            loop.add_signal_handler(number, worker.stop)
        await worker.run()
    finally:
        await backend.close()
        await close(partitions)
