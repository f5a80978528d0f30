"""The regression gate: small runs of the rigs, whose ratios must not fall below a share of the recorded ones.

Ratios only, each of two things measured in the same run: absolute times say more about the machine than about the
code. Most are of CPU seconds, because CI shares its machine with others. One that falls short is measured a second time
before it counts.

    python -m benchmarks.gate [--record] [RIG …]
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

RECORDED = Path(__file__).with_name("recorded.json")
FLOOR = 0.7
RUNS = {
    "queue_throughput": ("--parts", "path,workers", "--seconds", "1", "--rounds", "3"),
    "throughput": ("--seconds", "1", "--rounds", "3"),
    "decode_pool": ("--small", "--rounds", "2"),
    "e2e": ("--seconds", "3", "--rounds", "2", "--no-latency"),
    "answers": ("--rounds", "2"),
    "precision": ("model_repository/camera_motion", "--clips", "8", "--textures", "2"),
}
GATED = re.compile(
    r".*\bCPU of .*|two workers over one|mean batch over maximum at saturation|bytes of .* over .*|.*first labels kept"
)


def measured(name: str) -> dict[str, float]:
    """Ratios of one small run. Raises CalledProcessError where the rig itself fails."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", *RUNS[name], "--json", str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        ratios: dict[str, float] = json.loads(path.read_text())["ratios"]
    return {ratio: value for ratio, value in ratios.items() if GATED.fullmatch(ratio)}


def short(found: Mapping[str, float], recorded: Mapping[str, float]) -> list[str]:
    """Names of the ratios below the floor; one that is recorded but was not measured counts as such."""
    return [name for name, value in recorded.items() if found.get(name, 0.0) < FLOOR * value]


def main() -> None:
    """Measure, compare, print; exit status 1 where a ratio is too low."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="measure, and record what is measured")
    parser.add_argument("rigs", nargs="*", choices=[[], *RUNS], help="these only; all by default")
    arguments = parser.parse_args()
    began = time.monotonic()
    chosen = arguments.rigs or list(RUNS)
    kept: dict[str, dict[str, float]] = json.loads(RECORDED.read_text())
    if arguments.record:
        kept |= {name: measured(name) for name in chosen}
        RECORDED.write_text(json.dumps(kept, indent=2) + "\n")
        return
    failed = []
    for name, recorded in ((name, kept[name]) for name in chosen):
        found = measured(name)
        if short(found, recorded):
            again = measured(name)
            found = {ratio: max(value, again.get(ratio, value)) for ratio, value in found.items()}
        low = short(found, recorded)
        for ratio, value in recorded.items():
            mark = "LOW" if ratio in low else "ok"
            print(f"{mark:4} {ratio:55} {found.get(ratio, 0.0):.3f}, recorded {value:.3f}, floor {FLOOR * value:.3f}")
        failed += low
    print(f"gate: {len(failed)} below the floor, {time.monotonic() - began:.0f} s")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
