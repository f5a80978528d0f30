"""`vidtr api`, `vidtr worker`: the two processes of the service, each alone."""

from __future__ import annotations

import asyncio
import os

from service.cli.folders import usable_folder
from service.settings import Settings


def api() -> None:
    """Run one API process; its settings come from the environment."""
    from service.api.server import serve
    from service.queue.partition_count import check_count
    from service.queue.partitions import QueueAddress
    from service.telemetry import logs, metrics, traces

    settings = Settings()
    logs.configure(settings.log_level, settings.log_format, "api")
    if settings.spool_dir is not None:
        usable_folder("spool_dir", settings.spool_dir)
    asyncio.run(check_count(settings.subset(QueueAddress)))
    if settings.otlp_endpoint:
        traces.configure("api", settings.otlp_endpoint, settings.trace_sample_ratio)
    if settings.api_metrics_port:
        metrics.serve(settings.metrics_host, settings.api_metrics_port, settings.prometheus_multiproc_dir)
    serve(settings)


def worker() -> None:
    """Run one worker process; its settings come from the environment."""
    from service.inference.backend import Backend
    from service.queue.dead_letters import DeadLetterConfig
    from service.queue.job_intake import JobTtlConfig
    from service.queue.partition_count import check_count
    from service.queue.partitions import QueueAddress
    from service.signatures import Signer
    from service.signing_keys import read_signing_key
    from service.telemetry import logs, metrics, traces
    from service.worker.config import WorkerConfig
    from service.worker.run import run_worker
    from service.worker.watchdog import Watchdog

    settings = Settings()
    logs.configure(settings.log_level, settings.log_format, "worker")
    signer = None if settings.signing_key_file is None else Signer(read_signing_key(settings.signing_key_file))
    asyncio.run(check_count(settings.subset(QueueAddress)))
    if settings.otlp_endpoint:
        traces.configure("worker", settings.otlp_endpoint, settings.trace_sample_ratio)
    backend: Backend
    if settings.engine == "triton":
        from service.inference.load_balancer import BalancedBackend
        from service.inference.triton_backend import TritonBackend, TritonConfig

        servers: dict[str, Backend] = {
            url: TritonBackend(
                TritonConfig(
                    url,
                    settings.triton_timeout_s,
                    traces.headers,
                    settings.triton_key,
                    settings.triton_shared_memory,
                )
            )
            for url in settings.triton_urls
        }
        backend = next(iter(servers.values())) if len(servers) == 1 else BalancedBackend(servers)
    else:
        from service.inference.threads import limit_omp_spin

        limit_omp_spin(os.environ)  # read when torch is loaded

        from service.inference.torchscript import TorchScriptBackend, TorchScriptConfig

        backend = TorchScriptBackend(
            TorchScriptConfig(
                settings.model_repository,
                settings.torch_threads,
                settings.torchscript_operators,
                settings.engine_precision,
            )
        )
    watchdog = Watchdog(settings.worker_stall_s)
    if settings.worker_metrics_port:
        metrics.serve(
            settings.metrics_host, settings.worker_metrics_port, settings.prometheus_multiproc_dir, watchdog.stalled
        )
    asyncio.run(
        run_worker(
            backend,
            settings.subset(WorkerConfig),
            settings.subset(QueueAddress),
            settings.subset(JobTtlConfig),
            settings.subset(DeadLetterConfig),
            watchdog,
            signer,
        )
    )
