// One colour for each label of a video. More labels than colours share a quiet one; names stand beside every colour.

import { best } from "./verdict.js";

const COLOURS = 8;

/** `label => class` for the labels that come first in some window, the most frequent first, and for those of `events`. */
export function palette(windows, events = []) {
  const count = new Map();
  for (const first of windows.map(best)) {
    if (first) count.set(first.label, (count.get(first.label) ?? 0) + 1);
  }
  const ranked = [...count].sort(([, a], [, b]) => b - a).map(([label]) => label);
  for (const { label } of events ?? []) if (!ranked.includes(label)) ranked.push(label);
  const known = new Map(ranked.slice(0, COLOURS).map((label, index) => [label, `colour-${index}`]));
  return { of: (label) => known.get(label) ?? "colour-other", ranked, count };
}
