// What the frames of a window contribute to its label, where the answer has it.

import { percent, seconds, spaced } from "./dom.js";

/** `+0.21`, with the sign that a contribution has. */
export const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;

/** The evidence of each frame of a window with `share`, its part of the largest contribution; none where there is none. */
export function causes({ evidence }) {
  if (!evidence) return [];
  const largest = Math.max(...evidence.frames.map(({ contribution }) => Math.abs(contribution)), 1e-9);
  return evidence.frames.map((frame) => ({ ...frame, share: Math.max(0, frame.contribution) / largest }));
}

/** The evidence that an entry has, by the number of its window: of its own answer, and of those before it. */
export function evidenceOf({ answer, evidence = {} }) {
  const own = answer.windows.map((window, index) => [index, window.evidence]).filter(([, found]) => found);
  return { ...evidence, ...Object.fromEntries(own) };
}

/** How far attention can be believed, in a sentence. */
export function faithfulnessText({ source, clips, deletion_gap: gap, deletion_gap_error: error }) {
  const whole = (share) => `${Math.round(100 * share)} %`.replace("-", "−");
  const chance = gap > error ? "" : ": no better than frames in random order";
  return (
    `Attention of this model: ${whole(gap)} (± ${whole(error)}) of what is attainable in telling which frames a label rests on, ` +
    `measured on ${clips} ${source === "videos" ? "clips of real videos" : "generated clips"}${chance}.`
  );
}

/** What a window's evidence comes to, in sentences. */
export function evidenceText({ label, score, still_score: still, error, frames, forwards }) {
  const enough = frames.filter((frame) => frame.enough).map(({ time_s: time }) => seconds(time));
  const sure = error ? `to within ${error.toFixed(3)} with 95 % confidence` : "exactly";
  const needed =
    enough.length === 0
      ? "A still picture of one frame keeps 90 % of it."
      : `${enough.length === 1 ? "The frame" : "The frames"} at ${enough.join(", ")} ${enough.length === 1 ? "keeps" : "keep"} 90 % of it without the others.`;
  return (
    `What ${spaced(label)} needed: its score is ${percent(score)} with all frames and ${percent(still)} where one frame stands still. ` +
    `${needed} Measured ${sure}, from ${forwards} clips with frames left out. The second bar of a frame is what it adds to the score.`
  );
}
