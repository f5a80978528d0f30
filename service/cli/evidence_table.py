"""The evidence for a window's label, as a part of a report."""

from __future__ import annotations

from html import escape

import numpy as np

from service.contracts import WindowEvidence, WindowResult
from service.evidence import ENOUGH, rank_correlation


def evidence_table(window: WindowResult, found: WindowEvidence) -> str:
    """What each frame contributes, beside its attention where the model gives one."""
    label, attention = escape(found.label), window.attention
    largest = max(*(abs(frame.contribution) for frame in found.frames), 1e-9)
    rows = []
    for number, frame in enumerate(found.frames):
        enough = "yes" if frame.enough else ""
        attended = f'<td class="n">{attention[number].score:.3f}</td>' if attention else ""
        rows.append(
            f'<tr><td class="n">{frame.time_s:.2f} s</td><td class="n">{frame.contribution:+.3f}</td>'
            f'<td><meter min="0" max="{largest:.4f}" value="{max(frame.contribution, 0.0):.4f}" '
            f'aria-label="{frame.contribution:+.3f}"></meter></td><td>{enough}</td>{attended}</tr>'
        )
    head = "<th>frame</th><th>contribution</th><th></th><th>enough</th>" + ("<th>attention</th>" if attention else "")
    return (
        f"<h3>What each frame contributes to {label}</h3><p>{_sentence(found, window)}</p>"
        f"<table><tr>{head}</tr>{''.join(rows)}</table>"
    )


def _sentence(found: WindowEvidence, window: WindowResult) -> str:
    sure = "exactly" if not found.error else f"to within {found.error:.3f} with 95 % confidence"
    said = [
        f"The score of {escape(found.label)} is {found.score:.3f} with all frames and {found.still_score:.3f} where "
        f"one frame stands still; the contributions share the difference, {sure}, from {found.forwards} clips in which "
        "frames were left out.",
        f"The frames marked as enough keep {ENOUGH:.0%} of the score without the others.",
    ]
    if window.attention:
        agreed = rank_correlation(
            np.array([frame.contribution for frame in found.frames]),
            np.array([frame.score for frame in window.attention]),
        )
        if agreed is not None:
            said.append(f"Attention ranks the frames with a correlation of {agreed:+.2f} to this.")
    return " ".join(said)
