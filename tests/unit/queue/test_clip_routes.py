"""Clips wait with those that all workers of their route score alike."""

from service.queue.clip_routes import masked_route_of, model_of, route_of, routes
from testing.factories import spec


def test_each_arithmetic_of_the_same_weights_has_a_route_of_its_own() -> None:
    fine, coarse = spec(), spec(arithmetic="bf16")
    assert route_of(coarse) == f"{route_of(fine)}:bf16"
    assert masked_route_of(coarse) not in (masked_route_of(fine), route_of(coarse))
    assert model_of(route_of(coarse)) == fine.name


def test_a_worker_looks_for_clips_of_its_own_arithmetic_only() -> None:
    found = routes([spec(arithmetic="int8")])
    assert route_of(spec()) not in found
    assert route_of(spec(arithmetic="int8")) in found


def test_a_model_is_computed_in_its_precision_where_nothing_else_is_said() -> None:
    assert spec(precision="bf16").computed_in == "bf16"
    assert spec(precision="fp32", arithmetic="int8").computed_in == "int8"
