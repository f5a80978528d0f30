"""The evidence for a window's first label, as a part of a report."""

from __future__ import annotations

from html import escape

import numpy as np

from service.cli.causal import WindowEvidence
from service.contracts import WindowResult
from service.evidence import ENOUGH, rank_correlation


def evidence_table(window: WindowResult, found: WindowEvidence) -> str:
    """What each frame contributes, beside its attention where the model gives one."""
    label, facts = escape(found.label), found.evidence
    attention = window.attention
    largest = max(float(np.abs(facts.contributions).max()), 1e-9)
    rows = []
    for number, contribution in enumerate(facts.contributions.tolist()):
        attended = f'<td class="n">{attention[number].score:.3f}</td>' if attention else ""
        time = f"{attention[number].time_s:.2f} s" if attention else f"frame {number + 1}"
        enough = "yes" if number in facts.enough else ""
        rows.append(
            f'<tr><td class="n">{time}</td><td class="n">{contribution:+.3f}</td>'
            f'<td><meter min="0" max="{largest:.4f}" value="{max(contribution, 0.0):.4f}" '
            f'aria-label="{contribution:+.3f}"></meter></td><td>{enough}</td>{attended}</tr>'
        )
    head = "<th>frame</th><th>contribution</th><th></th><th>enough</th>" + ("<th>attention</th>" if attention else "")
    return (
        f"<h3>What each frame contributes to {label}</h3><p>{_sentence(found, window)}</p>"
        f"<table><tr>{head}</tr>{''.join(rows)}</table>"
    )


def _sentence(found: WindowEvidence, window: WindowResult) -> str:
    facts = found.evidence
    sure = "exactly" if not facts.error else f"to within {facts.error:.3f} with 95 % confidence"
    said = [
        f"The score of {escape(found.label)} is {facts.score:.3f} with all frames and {facts.still_score:.3f} where "
        f"one frame stands still; the contributions share the difference, {sure}, from {facts.forwards} clips in which "
        "frames were left out.",
        f"The frames marked as enough keep {ENOUGH:.0%} of the score without the others.",
    ]
    if window.attention:
        agreed = rank_correlation(facts.contributions, np.array([frame.score for frame in window.attention]))
        if agreed is not None:
            said.append(f"Attention ranks the frames with a correlation of {agreed:+.2f} to this.")
    return " ".join(said)
