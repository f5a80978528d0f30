"""Whether processes compute, by clocks that the tests set and by files as the kernel has them."""

from pathlib import Path

import pytest

from service.local.stillness import Stillness, session_cpu_s


class Session:
    """What is known of processes: the time, and the CPU they have used."""

    def __init__(self) -> None:
        self.now = self.used_s = 0.0
        self.stillness = Stillness(lambda: self.used_s, still_s=10, clock=lambda: self.now)

    def lasts_after(self, seconds: float, used_s: float) -> bool:
        self.now += seconds
        self.used_s += used_s
        return self.stillness.lasts()


def test_processes_that_only_wait_are_still_once_the_time_has_passed() -> None:
    session = Session()
    assert not session.lasts_after(9, 0.01)
    assert session.lasts_after(1, 0.01)


def test_processes_that_compute_now_and_then_are_not_still() -> None:
    session = Session()
    assert not any(session.lasts_after(10, 0.5) for _ in range(10))


def test_processes_that_computed_before_are_still_by_what_they_do_since() -> None:
    session = Session()
    assert not session.lasts_after(10, 10)
    assert session.lasts_after(10, 0)


def test_processes_of_which_one_has_ended_are_not_still() -> None:
    session = Session()
    assert not session.lasts_after(10, -5)


@pytest.mark.parametrize("name", ["server", "a server) 9 (", "日本"])
def test_the_cpu_of_a_session_is_that_of_its_processes(tmp_path: Path, name: str) -> None:
    for process, session, ticks in ((41, 41, 100), (42, 41, 50), (43, 43, 900)):
        folder = tmp_path / str(process)
        folder.mkdir()
        fields = ["S", 1, process, session, *[0] * 7, ticks, ticks, *[0] * 30]
        (folder / "stat").write_text(f"{process} ({name}) {' '.join(map(str, fields))}\n")
    (tmp_path / "44").mkdir()  # ended while it was read
    (tmp_path / "self").mkdir()

    assert session_cpu_s(41, tmp_path) * 2 == pytest.approx(session_cpu_s(43, tmp_path) / 3)
    assert session_cpu_s(45, tmp_path) == 0
