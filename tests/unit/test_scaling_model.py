"""What the model of scaling answers, and that the documentation says the same."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks import scaling_model
from benchmarks.scaling_model import (
    Constants,
    bounds,
    decode_cores,
    first_limit,
    partitioned,
    planned,
    predicted,
    redis_per_s,
    worker_per_s,
)
from benchmarks.scaling_tables import tables
from service.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
COSTS = Constants(
    clip_bytes=1_204_224,
    batch=8,
    api_s=0.002,
    worker_s=0.003,
    redis_s=0.001,
    redis_disk_s=0.005,
    cycle_s=0.05,
)


def test_slow_engines_bound_the_rate_until_the_cores_do() -> None:
    assert bounds(COSTS, workers=2, service_s=1.0, cores=2)[0].part == "engines"
    assert predicted(COSTS, workers=2, service_s=0.95, cores=2) == pytest.approx(16)
    assert bounds(COSTS, workers=1000, service_s=0.95, cores=2)[0].part == "cores"
    assert bounds(COSTS, workers=1000, service_s=0.95, cores=64)[0].part == "api"


def test_a_worker_spends_its_time_between_batches_so_that_a_fast_gpu_needs_many() -> None:
    between_s = COSTS.cycle_s + scaling_model.TRANSPORT_S
    assert worker_per_s(COSTS, gpu_clips_per_s=80) == pytest.approx(8 / (0.1 + between_s))
    assert worker_per_s(COSTS, gpu_clips_per_s=1e9) == pytest.approx(8 / between_s)


def test_batches_in_flight_overlap_until_the_worker_has_no_time_left() -> None:
    assert worker_per_s(COSTS, 80, in_flight=2) == pytest.approx(2 * worker_per_s(COSTS, 80))
    assert worker_per_s(COSTS, 80, in_flight=16) == pytest.approx(scaling_model.USABLE / COSTS.worker_s)


def test_the_dearest_part_fills_up_first() -> None:
    assert first_limit(COSTS, gpu_clips_per_s=1e9)[0] == "worker"
    assert first_limit(replace(COSTS, cycle_s=-scaling_model.TRANSPORT_S, worker_s=1e-6), 1000)[0] == "api"
    assert first_limit(replace(COSTS, redis_s=0.1), gpu_clips_per_s=1000)[0] == "redis"
    assert first_limit(replace(COSTS, redis_disk_s=0.1), gpu_clips_per_s=1000, kept=True)[0] == "redis"


@pytest.mark.parametrize("kept", [False, True])
def test_a_fleet_carries_what_its_gpus_answer(kept: bool) -> None:
    plan = planned(COSTS, 1000, 500)
    for workers, in_flight in ((plan.workers, 1), (plan.workers_overlapped, scaling_model.IN_FLIGHT)):
        assert workers * worker_per_s(COSTS, 500, in_flight) >= plan.clips_per_s
    servers = plan.redis_kept if kept else plan.redis
    assert servers * redis_per_s(COSTS, kept=kept) >= plan.clips_per_s
    assert servers * scaling_model.NETWORK_BYTES_PER_S >= plan.redis_bytes_per_s / 2
    assert planned(COSTS, 2000, 500).redis == pytest.approx(2 * plan.redis, abs=1)


def test_a_cluster_carries_as_much_as_its_primaries_where_partitions_are_spread_evenly() -> None:
    one = redis_per_s(COSTS, kept=True)
    assert partitioned(COSTS, 12, 3, kept=True) == pytest.approx(3 * one)
    assert partitioned(COSTS, 4, 3, kept=True) == pytest.approx(2 * one)
    assert partitioned(COSTS, 1, 3, kept=True) == pytest.approx(one)


def test_an_installation_has_as_many_partitions_as_a_queue_may_have() -> None:
    limits = Settings.model_fields["queue_partitions"].metadata
    assert scaling_model.MOST_PARTITIONS in [getattr(limit, "le", None) for limit in limits]


def test_decoding_takes_the_cores_of_its_cpu_time() -> None:
    assert decode_cores(0.1, 700) == 100


@pytest.mark.parametrize("chapter", tables())
def test_the_page_has_the_figures_of_the_model(chapter: str) -> None:
    _, _, text = PAGE.read_text(encoding="utf-8").partition(f"\n## {chapter}\n")
    assert tables()[chapter] in text.partition("\n## ")[0], "run: python -m benchmarks.scaling_model"


def test_the_model_agrees_with_what_was_measured() -> None:
    constants, measured, cores = scaling_model.load()
    assert len(measured) >= 2
    for row in measured:
        rate = predicted(constants, int(row["workers"]), row["service_s"], cores)
        assert rate == pytest.approx(row["clips_per_s"], rel=0.25), row


def test_constants_and_measurements_are_taken_from_the_record_of_a_run() -> None:
    cpu = {"redis": 1.0, "worker": 3.0, "own": 2.0}
    path = {"clip_bytes": 1_204_224, "cpu_ms_per_clip": cpu}
    rows = [{"workers": n, "service_s": 0.25, "clips_per_s": 20.0 * n, "backend_bound_per_s": 32.0 * n} for n in (1, 2)]
    disk = {**path, "cpu_ms_per_clip": {**cpu, "redis": 5.0}}
    figures = {"path, in memory": path, "path, kept on disk": disk, "workers": rows}
    about = {"at": "2026-01-01T00:00:00Z", "commit": "0123456789abcdef", "machine": {"cores": 2}, "versions": {}}
    found = scaling_model.taken({**about, "figures": figures})
    constants = Constants(**found["constants"])
    assert asdict(constants) == pytest.approx(asdict(replace(COSTS, cycle_s=0.15)))
    assert [predicted(constants, row["workers"], 0.25, 64) for row in found["measured"]] == pytest.approx([20.0, 40.0])
