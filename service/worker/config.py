"""The settings of the worker."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WorkerConfig:
    """Field names equal those of `service.settings.Settings`."""

    worker_block_ms: int
    worker_lease_s: float
    worker_max_deliveries: int
    worker_heartbeat_s: float
    worker_interactive_weight: int
    worker_bulk_batch_ms: int
    worker_batch_delay_ms: int
    worker_batches_in_flight: int
    breaker_failures: int
    breaker_open_s: float

    @property
    def announcement_ttl_s(self) -> float:
        """Life of a model announcement: long enough that one late heartbeat does not take the model away."""
        return max(3 * self.worker_heartbeat_s, 5.0)

    @property
    def reclaim_every_s(self) -> float:
        """How often to look for lost work: it must be found within a second of the end of its lease."""
        return min(self.worker_lease_s / 4, 0.5)
