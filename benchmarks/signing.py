"""What a signature costs beside making the answer that it is of, in CPU milliseconds.

    python -m benchmarks.signing [--rounds 30] [--json FILE]

For answers of several lengths, with the attention of each frame: aggregating the scores and encoding the outcome, which
happens in any case, and then signing, which is the canonical JSON and Ed25519 over it. The least of the rounds counts.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.common import record
from benchmarks.common.cpu import least_cpu_s
from service.aggregate import aggregate
from service.contracts import JobState, told
from service.queue.codec import Outcome
from service.signatures import Signer
from testing.factories import decoded, scores, spec
from testing.factories import record as job_record

WINDOWS = (1, 6, 60, 3600)


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    began = record.machine()
    signer, model = Signer(Ed25519PrivateKey.generate()), spec()
    per_clip = scores()
    found = []
    for windows in WINDOWS:
        job, of_clips = job_record(decoded=decoded(windows)), [per_clip] * windows
        answer = aggregate(job, model, of_clips, job.created_at)
        rounds = max(3, given.rounds // windows)
        making = 1000 * least_cpu_s(lambda: aggregate(job, model, of_clips, job.created_at), rounds)  # noqa: B023
        making += 1000 * least_cpu_s(Outcome(JobState.SUCCEEDED, result=answer).encode, rounds)
        signing = 1000 * least_cpu_s(lambda: signer.sign(answer.document), rounds)  # noqa: B023
        found.append({"windows": windows, "making_ms": making, "signing_ms": signing, "ratio": signing / making})
        sys.stdout.write(
            f"{windows:5} windows, {len(told(answer, answer)) / 1000:.1f} kB: {making:.2f} ms to make, "
            f"{signing:.2f} ms to sign, {signing / making:.0%}\n"
        )
    record.write(
        "signing",
        {"rows": found},
        began=began,
        ratios={f"signing / making, {row['windows']} windows": row["ratio"] for row in found},
        path=given.json,
    )


if __name__ == "__main__":
    main()
