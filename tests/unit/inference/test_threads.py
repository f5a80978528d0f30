"""How many threads a forward takes, with given CPU seconds instead of a clock."""

import pytest

from service.inference.threads import SPIN, limit_omp_spin, pick_thread_count, threads_needed


@pytest.mark.parametrize(
    ("seconds", "cores", "wanted"),
    [
        ({1: 1.0, 2: 1.04}, 2, 2),
        ({1: 1.0, 2: 1.40}, 2, 1),
        ({1: 1.0, 2: 1.10, 4: 1.16, 6: 1.50}, 6, 4),
        ({1: 1.0, 2: 1.40, 4: 1.04}, 4, 4),
        ({1: 1.0}, 1, 1),
    ],
    ids=["both", "not worth it", "fewer than all", "all though not half of them", "one core"],
)
def test_as_many_threads_are_taken_as_waste_little(seconds: dict[int, float], cores: int, wanted: int) -> None:
    assert pick_thread_count(seconds.__getitem__, cores) == wanted


def test_one_slow_run_does_not_decide() -> None:
    times = {1: iter((0.2, 0.2, 0.2, 0.2)), 2: iter((0.9, 0.208, 0.9))}
    assert pick_thread_count(lambda threads: next(times[threads]), 2) == 2


@pytest.mark.parametrize(
    ("seconds", "wanted", "runs"),
    [({1: 4.0, 2: 4.4}, 2, [1, 2]), ({1: 0.4, 2: 0.44}, 2, [1, 2] * 3), ({1: 4.0, 2: 6.0}, 1, [1, 2] * 3)],
    ids=["long and worth it", "short", "long and not worth it"],
)
def test_a_long_run_is_repeated_only_where_it_speaks_against_threads(
    seconds: dict[int, float], wanted: int, runs: list[int]
) -> None:
    asked: list[int] = []

    def timed(threads: int) -> float:
        asked.append(threads)
        return seconds[threads]

    assert pick_thread_count(timed, 2) == wanted
    assert asked == runs


@pytest.mark.parametrize(
    ("clip_s", "cores", "threads"),
    [(0.01, 2, 1), (0.02, 2, 1), (0.2, 2, 2), (0.02, 4, 2), (0.02, 16, 8), (2.0, 16, 16), (0.0001, 16, 1)],
)
def test_a_network_needs_its_share_of_the_cores(clip_s: float, cores: int, threads: int) -> None:
    assert threads_needed(clip_s, cores) == threads


def test_threads_that_a_network_does_not_need_are_not_tried() -> None:
    asked: list[int] = []

    def timed(threads: int) -> float:
        asked.append(threads)
        return 0.04

    assert pick_thread_count(timed, 2, clips=2) == 1
    assert asked == [1]


@pytest.mark.parametrize("variable", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"])
def test_what_the_environment_says_of_spinning_stands(variable: str) -> None:
    environment = {variable: "as it was"}
    limit_omp_spin(environment)
    assert environment == {variable: "as it was"}


def test_without_a_word_threads_spin_briefly() -> None:
    environment: dict[str, str] = {}
    limit_omp_spin(environment)
    assert environment == SPIN
