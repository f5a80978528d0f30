"""The answer to one video as one HTML file that needs nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import escape

from service.aggregate import NOTHING_CLEAR, most_attended
from service.cli.attention_figure import dropped_after, remark
from service.cli.evidence_table import evidence_table
from service.contracts import JobResult, Prediction, WindowResult

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1f24; --faint: #5d6470; --line: #d8dce2; --back: #fff; --bar: #0072b2 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --faint: #a0a7b2; --line: #3a4048; --back: #16181c; --bar: #56b4e9 } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); margin: 0 auto;
  max-width: 76rem; padding: 1.5rem }
h1 { font-size: 1.4rem; overflow-wrap: anywhere } h2 { font-size: 1.05rem; margin-top: 2rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; color: var(--faint) } dd { margin: 0 }
table { border-collapse: collapse } th, td { text-align: left; padding: .2rem .8rem .2rem 0 }
td.n { text-align: right; font-variant-numeric: tabular-nums }
meter { width: 12rem }
meter::-webkit-meter-optimum-value { background: var(--bar) }
meter::-moz-meter-bar { background: var(--bar) }
figure { margin: .5rem 0; overflow-x: auto; background: #fff; border: 1px solid var(--line); border-radius: 6px }
figure svg { display: block; width: 100%; min-width: 48rem; height: auto }
.timeline { display: flex; height: 2rem; border-radius: 4px; overflow: hidden; gap: 1px }
.timeline span { overflow: hidden; white-space: nowrap; text-overflow: ellipsis; padding: .25rem .4rem; color: #fff;
  background: #0072b2; font-size: .8rem }
.warning { border-left: 3px solid #d55e00; padding-left: .8rem }
.faint { color: var(--faint) }
.note { color: var(--faint); margin-top: 2rem }
pre { overflow-x: auto; font-size: .8rem; border: 1px solid var(--line); border-radius: 6px; padding: 1rem }
"""


def page(name: str, result: JobResult, figures: Sequence[bytes], faithfulness: str = "", where: str = "") -> str:
    """The page of a file called `name`; `figures` are the SVG drawings of its windows.

    `faithfulness` says how far attention can be believed; empty where that was not measured. `where` says how maps over
    the pictures are read; empty where there are none.
    """
    video, model = result.video, result.model
    facts = {
        "model": f"{model.name}, version {model.version}" + ("" if model.trained else ", not trained"),
        "video": f"{video.duration_s:.2f} s, {video.width} × {video.height}, {video.container}, {video.codec}",
        "looked at": f"{_counted(len(result.windows), 'window')}, {result.coverage:.0%} of the duration",
    }
    parts = [
        f"<h1>{escape(name)}</h1>",
        "<dl>" + "".join(f"<dt>{key}</dt><dd>{escape(value)}</dd>" for key, value in facts.items()) + "</dl>",
        *(f'<p class="warning">{escape(warning.detail)}</p>' for warning in result.warnings),
        "<h2>Labels of the whole video</h2>",
        f"<p><strong>{NOTHING_CLEAR}</strong>: no label reaches its threshold.</p>" if result.abstained else "",
        _labels(result.predictions),
        _timeline(result) if len(result.windows) > 1 else "",
    ]
    parts += [f'<p class="note">{escape(note)}</p>' for note in (faithfulness, remark(result.windows), where) if note]
    for number, (window, figure) in enumerate(zip(result.windows, figures, strict=True), start=1):
        parts.append(f"<h2>Window {number}: {window.start_s:.2f} s to {window.end_s:.2f} s</h2>")
        parts.append(
            f'<figure role="img" aria-label="{_in_words(result, number - 1)}">{_inline(figure, number)}</figure>'
        )
        if window.evidence is not None:
            parts.append(evidence_table(window, window.evidence))
    raw = escape(json.dumps(result.document, indent=1))
    parts.append(f"<details><summary>The answer as JSON</summary><pre>{raw}</pre></details>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(name)}</title><style>{_STYLE}</style></head><body><main>"
        + "\n".join(parts)
        + "</main></body></html>\n"
    )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _labels(predictions: Sequence[Prediction]) -> str:
    thresholds = any(p.threshold is not None for p in predictions)
    rows = "".join(
        f'<tr{" class=faint" if p.passes is False else ""}><td>{escape(p.label)}</td><td class="n">{p.score:.3f}</td>'
        + (f'<td class="n">{p.threshold:.3f}</td><td>{"yes" if p.passes else "no"}</td>' if thresholds else "")
        + f'<td><meter min="0" max="1" value="{p.score:.4f}" aria-label="{escape(p.label)}"></meter></td></tr>'
        for p in predictions
    )
    judged = "<th>threshold</th><th>passes</th>" if thresholds else ""
    return f"<table><tr><th>label</th><th>score</th>{judged}<th></th></tr>{rows}</table>"


def _timeline(result: JobResult) -> str:
    pieces = "".join(
        f'<span style="flex: {max(window.end_s - window.start_s, 0.01):.3f}" title="{window.start_s:.2f} s to '
        f'{window.end_s:.2f} s">{escape(_said(window))}</span>'
        for window in result.windows
    )
    return f'<h2>Window by window</h2><div class="timeline">{pieces}</div>'


def _said(window: WindowResult) -> str:
    if window.abstained:
        return NOTHING_CLEAR
    return window.predictions[0].label if window.predictions else "-"


def _in_words(result: JobResult, number: int) -> str:
    attention = result.windows[number].attention
    if attention is None:
        return "The frames of the window; the model gives no attention"
    most = most_attended(attention)
    counted = (
        "no frame stands out"
        if most is None
        else f"the one at {most.time_s:.2f} seconds counted most, with {most.score:.3f} of the attention"
    )
    dropped = sum(dropped_after(frame) is not None for frame in attention)
    return f"{len(attention)} frames; {counted}; {dropped} {'was' if dropped == 1 else 'were'} dropped on the way"


def _inline(svg: bytes, number: int) -> str:
    """The drawing without its prologue, and with ids of its own: those of several drawings would meet on one page."""
    text = svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>w{number}-", text)
    return re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
