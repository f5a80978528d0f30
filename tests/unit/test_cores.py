"""How many cores a process may use."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from service.cores import usable_cores

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="affinities and control groups are Linux's")


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The control groups of a machine on which this process may use eight cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    (tmp_path / "membership").write_text("0::/outer/inner\n")
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    return tmp_path


def cores(cgroups: Path) -> int:
    return usable_cores(cgroups, cgroups / "membership")


def test_without_a_quota_they_are_those_of_the_affinity(cgroups: Path) -> None:
    (cgroups / "outer" / "cpu.max").write_text("max 100000\n")
    assert cores(cgroups) == 8


@pytest.mark.parametrize(("quota", "expected"), [("200000", 2), ("250000", 3), ("10000", 1), ("1600000", 8)])
def test_a_quota_limits_them(cgroups: Path, quota: str, expected: int) -> None:
    (cgroups / "outer" / "inner" / "cpu.max").write_text(f"{quota} 100000\n")
    assert cores(cgroups) == expected


def test_the_quota_of_a_group_around_it_counts(cgroups: Path) -> None:
    (cgroups / "outer" / "cpu.max").write_text("300000 100000\n")
    (cgroups / "outer" / "inner" / "cpu.max").write_text("max 100000\n")
    assert cores(cgroups) == 3


def test_in_a_container_its_own_group_is_at_the_top(cgroups: Path) -> None:
    (cgroups / "cpu.max").write_text("400000 100000\n")
    assert cores(cgroups) == 4


def test_control_groups_of_the_first_version_count(cgroups: Path) -> None:
    (cgroups / "membership").write_text("3:memory:/\n4:cpu,cpuacct:/docker\n")
    (cgroups / "cpu" / "docker").mkdir(parents=True)
    (cgroups / "cpu" / "docker" / "cpu.cfs_quota_us").write_text("200000\n")
    (cgroups / "cpu" / "docker" / "cpu.cfs_period_us").write_text("100000\n")
    assert cores(cgroups) == 2


def test_a_machine_without_control_groups_has_those_of_the_affinity(tmp_path: Path) -> None:
    assert usable_cores(tmp_path / "none", tmp_path / "none") == len(os.sched_getaffinity(0))
