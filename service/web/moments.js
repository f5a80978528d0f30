// What happens in a video, as sentences: from the shares and events of an answer, for eyes and for ears.

import { element, spaced } from "./dom.js";
import { best, NOTHING_CLEAR } from "./verdict.js";

const MOSTLY = 0.5;
const ALWAYS = 0.97;
// As many labels, and as many times of each, as a sentence holds without becoming a list.
const LABELS = 5;
const TIMES = 2;

// Labels of the bundled model as verbs; others are said as they are.
const SAYING = {
  static: "still",
  pan_left: "pans left",
  pan_right: "pans right",
  tilt_up: "tilts up",
  tilt_down: "tilts down",
  zoom_in: "zooms in",
  zoom_out: "zooms out",
  roll_cw: "rolls clockwise",
  roll_ccw: "rolls counterclockwise",
  shake: "shakes",
};

export const phrase = (label) => SAYING[label] ?? spaced(label);

/** `0:03`, `12:07` or `1:02:03`; with tenths where a video is short enough for them to count. */
export function clock(seconds, fine = false) {
  const tenths = fine ? Math.round(seconds * 10) : Math.round(seconds) * 10;
  const whole = Math.floor(tenths / 10);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const parts = hours ? [hours, String(minutes).padStart(2, "0")] : [minutes];
  return `${[...parts, String(rest).padStart(2, "0")].join(":")}${fine && tenths % 10 ? `.${tenths % 10}` : ""}`;
}

/** The same as it is read aloud: "1 minute 3 seconds". */
export function spokenClock(seconds, fine = false) {
  const exact = fine ? Math.round(seconds * 10) / 10 : Math.round(seconds);
  const counted = [
    [Math.floor(exact / 3600), "hour"],
    [Math.floor(exact / 60) % 60, "minute"],
    [Math.round((exact % 60) * 10) / 10, "second"],
  ];
  const said = counted.filter(([count]) => count > 0).map(([count, unit]) => `${count} ${unit}${count === 1 ? "" : "s"}`);
  return said.length > 0 ? said.join(" ") : "the beginning";
}

export const instant = (event) => event.end_s - event.start_s < 1e-6;

/**
 * The sentences of an answer, each as `{shown, spoken}`.
 * Answers without events, such as those of models without thresholds, come to their best label.
 */
export function sentences(answer) {
  const { events, summary } = answer;
  if (!events || !summary) return [plain(`${capital(bestOf(answer))}.`)];
  const fine = answer.video.duration_s < 60;
  const lasting = summary.shares.filter(({ duration_s: seconds }) => seconds > 0);
  const instants = summary.shares.filter(({ duration_s: seconds }) => seconds === 0);
  const main = mainSentence(answer, lasting, instants);
  const others = lasting.filter(({ label }) => label !== main?.label).slice(0, LABELS);
  const often = others.filter(({ events: count }) => count > TIMES);
  const few = others.filter(({ events: count }) => count <= TIMES);
  const shares = sharesSentence(often);
  const times = few.map(({ label }) => timed(phrase(label), ofLabel(events, label), fine));
  const found = [
    ...(main ? [plain(main.text)] : []),
    // What holds longest is said first.
    ...(others[0] === often[0] ? [...shares, ...times] : [...times, ...shares]),
    ...instants.map((share) => instantSentence(share, events, fine)),
  ];
  if (found.length === 0) found.push(plain(`${NOTHING_CLEAR}.`));
  return found.map(({ shown, spoken }) => ({ shown: capital(shown), spoken: capital(spoken) }));
}

// What holds for most of the video; of a short one, or one that was looked at here and there, what its mean says.
function mainSentence(answer, lasting, instants) {
  const { basis, unlabeled_share: unlabeled } = answer.summary;
  if (basis === "mean") {
    const first = best(answer);
    if (!first || instants.some(({ label }) => label === first.label)) return null;
    return { label: first.label, text: `${phrase(first.label)}.` };
  }
  const most = lasting.find(({ share, qualifier }) => share >= MOSTLY && !qualifier);
  if (most) return { label: most.label, text: `${most.share > ALWAYS ? "" : "mostly "}${phrase(most.label)}.` };
  return unlabeled >= MOSTLY && lasting.length > 0 ? { label: null, text: "mostly nothing clear." } : null;
}

/** The sentences as one text for a screen reader or a card. */
export const headline = (answer, form = "shown") => sentences(answer).map((sentence) => sentence[form]).join(" ");

/** The sentences as nodes: what is shown is hidden from screen readers, which get what is spoken. */
export function headlineNodes(answer) {
  return [
    element("span", { "aria-hidden": "true" }, headline(answer)),
    element("span", { class: "hidden" }, headline(answer, "spoken")),
  ];
}

/** When an event happens, for eyes and for ears. */
export function when(event, fine) {
  const [start, end] = [event.start_s, event.end_s];
  if (instant(event)) return { shown: `at ${clock(start, fine)}`, spoken: `at ${spokenClock(start, fine)}` };
  return {
    shown: `${clock(start, fine)}–${clock(end, fine)}`,
    spoken: `from ${spokenClock(start, fine)} to ${spokenClock(end, fine)}`,
  };
}

const plain = (text) => ({ shown: text, spoken: text });
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const bestOf = (answer) => {
  const first = best(answer);
  return first ? phrase(first.label) : NOTHING_CLEAR;
};

const ofLabel = (events, label) => events.filter((event) => event.label === label);

// "Pans right 13 % of the time, tilts up 8 %."
function sharesSentence(shares) {
  const parts = shares.map(({ label, share }) => `${phrase(label)} ${share < 0.01 ? "less than 1" : Math.round(100 * share)} %`);
  if (parts.length === 0) return [];
  return [plain(`${[`${parts[0]} of the time`, ...parts.slice(1)].join(", ")}.`)];
}

function instantSentence({ label, events: count }, events, fine) {
  return count === 1 ? timed(`1 ${spaced(label)}`, ofLabel(events, label), fine) : plain(`${count} ${spaced(label)}s.`);
}

function timed(text, events, fine) {
  const times = events.map((event) => when(event, fine));
  return {
    shown: `${text} ${times.map(({ shown }) => shown).join(" and ")}.`,
    spoken: `${text} ${times.map(({ spoken }) => spoken).join(" and ")}.`,
  };
}
