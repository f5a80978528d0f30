"""What is known of the live workers together."""

import pytest

from service.contracts import HOLDS_LABELS, WorkerStatus
from service.queue.clip_routes import route_of
from service.queue.fleet import Fleet
from testing.factories import spec

ROUTE = route_of(spec())
SERVED = spec(route=ROUTE)


def worker(breaker: str = "closed", retry_in_s: float = 0.0, **clips_per_s: float) -> WorkerStatus:
    return WorkerStatus.model_validate(
        {
            "worker": "w",
            "models": ["tiny:1"],
            "routes": [ROUTE],
            "breaker": breaker,
            "retry_in_s": retry_in_s,
            "clips_per_s": clips_per_s,
        }
    )


def test_the_drain_rate_is_that_of_the_workers_that_work() -> None:
    fleet = Fleet.of([worker(tiny=2.0), worker(tiny=3.0, other=9.0), worker("open", tiny=100.0)])
    assert (fleet.drain_rate("tiny"), fleet.drain_rate("other"), fleet.drain_rate("nobody")) == (5.0, 9.0, None)


def test_a_worker_that_hardly_moves_has_a_rate() -> None:
    assert Fleet.of([worker(tiny=1e-9)]).drain_rate("tiny") == 0.001


def test_an_engine_is_away_where_no_worker_of_the_model_has_one() -> None:
    assert Fleet.of([worker("open", 1.5), worker("open", 2.5)]).engine_away_s(SERVED) == 2.5
    assert Fleet.of([worker("open", 1.5), worker("half_open")]).engine_away_s(SERVED) is None
    assert Fleet.of([]).engine_away_s(SERVED) is None


def test_workers_of_the_release_before_serve_models_by_name_and_version() -> None:
    old = WorkerStatus(worker="old", models=("tiny:1",), breaker="open", retry_in_s=3.0)
    fleet = Fleet.of([worker()]).joined_by([old])
    assert (len(fleet), fleet.engine_away_s(SERVED), fleet.engine_away_s(spec())) == (2, None, None)
    assert Fleet.of([old]).engine_away_s(spec()) == 3.0


@pytest.mark.parametrize("state", ["closed", "half_open", "open"])
def test_workers_are_counted_by_the_state_of_their_breaker(state: str) -> None:
    fleet = Fleet.of([worker(state), worker(state), worker()])
    assert fleet.with_breaker(state) == (3 if state == "closed" else 2)


def test_a_record_goes_without_labels_once_every_worker_of_the_route_holds_them() -> None:
    holding = worker().model_copy(update={"capabilities": (HOLDS_LABELS,)})
    assert Fleet.of([holding, holding]).job_model(SERVED) == SERVED.job_model
    assert Fleet.of([holding, worker()]).job_model(SERVED) is SERVED
    assert Fleet.of([]).job_model(SERVED) is SERVED


def test_a_record_has_labels_where_workers_look_for_it_under_the_name_of_the_model() -> None:
    holding = worker().model_copy(update={"capabilities": (HOLDS_LABELS,)})
    by_name = spec(route="")
    assert Fleet.of([holding]).job_model(by_name) is by_name
