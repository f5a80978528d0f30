from service.api.problems import STATUS
from service.errors import error_types


def test_every_error_has_exactly_one_status() -> None:
    assert set(STATUS) == set(error_types())


def test_errors_that_pass_by_themselves_are_503() -> None:
    passing = {"queue_full", "queue_unavailable", "backend_unavailable", "disk_full", "draining"}
    assert {code for code, status in STATUS.items() if status == 503} == passing
