"""What every benchmark leaves behind: one JSON file with its figures, and where, on what and from which code."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.common.cpu import CORES, busy

RESULTS = Path("benchmarks/results")
PACKAGES = ("torch", "numpy", "av", "redis", "hiredis", "fastapi", "uvicorn", "uvloop", "tritonclient")

Figure = TypeVar("Figure")


def machine() -> dict[str, Any]:
    """Processor, cores, memory and load of this machine."""
    facts = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in facts.splitlines() if line.startswith("model name")]
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    load = os.getloadavg()[0]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": CORES,
        "memory_gib": round(pages * page / 2**30, 1),
        "system": platform.platform(),
        "load_average": round(load, 2),
        "disturbed": busy(load),
    }


def versions() -> dict[str, str]:
    """Python and the packages that matter for speed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def commit() -> str:
    """The commit of the working tree, with `+` where files differ from it; `unknown` outside git."""
    try:
        head = _git("rev-parse", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    return subprocess.run(("git", *arguments), check=True, capture_output=True, text=True).stdout.strip()  # noqa: S607


def write(
    name: str, figures: Mapping[str, Any], *, began: Mapping[str, Any], ratios: Mapping[str, float], path: Path | None
) -> Path:
    """Write the result of the benchmark `name`; `ratios` are what the gate and the report compare.

    `began` is `machine()` as it was before the load of the benchmark itself.
    """
    path = path or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "benchmark": name,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit(),
        "machine": began,
        "versions": versions(),
        "ratios": {key: round(value, 4) for key, value in ratios.items()},
        "figures": figures,
    }
    path.write_text(json.dumps(record, indent=2) + "\n")
    if began["disturbed"]:
        print(f"other work was running (load {began['load_average']}): take these figures with care")
    return path


async def interleaved(rounds: int, ways: Mapping[str, Callable[[], Awaitable[Figure]]]) -> dict[str, list[Figure]]:
    """Each way measured `rounds` times, in turns that begin with another way each round: drift meets all alike."""
    names = list(ways)
    found: dict[str, list[Figure]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(await ways[name]())
    return found


def median_of_ratios(above: Sequence[float], below: Sequence[float]) -> float:
    """Median of the ratios of two interleaved series, round by round."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))
