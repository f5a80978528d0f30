"""What the gate refuses, and what the report marks."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gate, report
from benchmarks.common import record


def recorded(**changes: Any) -> dict[str, Any]:
    """A record of a queue benchmark."""
    rows = [{"workers": n, "clips_per_s": 30.0 * n, "backend_bound_per_s": 32.0 * n} for n in (1, 2)]
    values: dict[str, Any] = {
        "benchmark": "queue_throughput",
        "at": "2026-01-01T00:00:00Z",
        "commit": "0123456789abcdef+",
        "machine": {**record.machine(), "disturbed": False},
        "versions": record.versions(),
        "ratios": {"two workers over one": 1.9},
        "figures": {"workers": rows, "memory": {"bytes": {"worker": [1, 2], "redis": [3, 4]}}},
    }
    return {**values, **changes}


def test_the_gate_lets_pass_what_is_at_its_floor_and_names_what_is_below() -> None:
    assert gate.short({"a": 0.7, "b": 0.69, "c": 9.0}, {"a": 1.0, "b": 1.0}) == ["b"]


def test_a_ratio_that_was_not_measured_does_not_pass_the_gate() -> None:
    assert gate.short({}, {"a": 0.1}) == ["a"]


def test_what_is_recorded_is_what_the_runs_of_the_gate_measure() -> None:
    found = json.loads(gate.RECORDED.read_text())
    assert set(found) <= set(gate.RUNS)
    assert all(gate.GATED.fullmatch(name) for ratios in found.values() for name in ratios)
    assert all(value > 0 for ratios in found.values() for value in ratios.values())
    assert found.get("queue_throughput")


@pytest.mark.parametrize(("ratio", "marked"), [(1.59, True), (1.6, False)])
def test_the_report_marks_a_ratio_below_its_target(ratio: float, marked: bool) -> None:
    page = report.page([recorded(ratios={"two workers over one": ratio})])
    assert ('<tr class="short">' in page) is marked


def test_the_report_says_on_what_and_from_which_code_its_figures_come() -> None:
    page = report.page([recorded()])
    assert "0123456789ab+" in page
    assert record.versions()["python"] in page
    assert "disturbed" not in page
    assert "disturbed by other work" in report.page([recorded(machine={**record.machine(), "disturbed": True})])


def test_the_report_draws_workers_and_memory_into_the_page_itself() -> None:
    assert report.page([recorded()]).count('<img src="data:image/png;base64,') == 2


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("ray, service: p99", 0.97),
        ("cvidtr_s_8x8, triton: efficiency", 0.95),
        ("camera_motion, triton: efficiency", 0.8),
    ],
)
def test_ratios_have_the_targets_of_their_kind(name: str, least: float) -> None:
    assert report.target(name) == least


def test_a_file_that_is_no_record_is_left_out_of_the_report(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"ratios": {}}')
    written = record.write(
        "queue_throughput",
        {},
        began={**record.machine(), "disturbed": False},
        ratios={},
        path=tmp_path / "sub" / "one.json",
    )
    written.rename(tmp_path / "one.json")
    assert [one["benchmark"] for one in report.load(tmp_path)] == ["queue_throughput"]
