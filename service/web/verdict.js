// What an answer, or one of its windows, comes to: the label that holds, or that nothing does.

import { percent, spaced } from "./dom.js";

/** Times an even share that a frame's attention must have before the page names the frame. */
export const STANDS_OUT = 1.6;

export const NOTHING_CLEAR = "no clear motion";

/** The first label, or null where the model abstains or lists none. */
export const best = ({ abstained, predictions }) => (abstained ? null : predictions[0] ?? null);

/** The same in words, with its score. */
export function said(place) {
  if (place.abstained) return NOTHING_CLEAR;
  const first = best(place);
  return first ? `${spaced(first.label)} ${percent(first.score)}` : "no label";
}

/** The frame of a window that counted most, or null where attention is flat. */
export function mostAttended(attention) {
  const most = attention.reduce((high, frame) => (frame.score > high.score ? frame : high));
  return most.score * attention.length >= STANDS_OUT ? most : null;
}
