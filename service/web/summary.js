// What an answer says in words and lists.

import { element, percent, seconds, spaced } from "./dom.js";
import { NOTHING_CLEAR } from "./verdict.js";

export function labelList({ abstained, predictions }) {
  const labels = predictions.map(labelled);
  if (abstained) {
    const nothing = element("li", { class: "nothing" }, element("span", { class: "name" }, NOTHING_CLEAR));
    nothing.append(element("span", { class: "note" }, "No label reaches its threshold over the whole video."));
    return [nothing, ...labels];
  }
  return labels.length > 0 ? labels : [element("li", {}, "No label reaches the lowest score asked for.")];
}

function labelled({ label, score, threshold, passes }) {
  const judged = threshold !== undefined;
  return element(
    "li",
    { class: passes === false ? "fails" : null },
    element("span", { class: "name" }, spaced(label)),
    element("span", { class: "score" }, percent(score)),
    element(
      "span",
      { class: "meter", "aria-hidden": "true", "--share": score },
      ...(judged ? [element("span", { class: "threshold", "--share": threshold })] : []),
    ),
    ...(judged ? [element("span", { class: "note" }, `${passes ? "above" : "below"} its threshold of ${percent(threshold)}`)] : []),
  );
}

export function warningList(warnings) {
  return warnings.map(({ code, detail }) => element("li", { class: "message warn" }, element("strong", {}, spaced(code)), ` ${detail}`));
}

const STAGES = {
  upload: "upload",
  decode: "decode",
  queue: "wait in the queue",
  inference: "inference",
  between: "between the stages",
  total: "total",
};

export function timingList({ total, ...stages }) {
  // What the stages leave is spent on handing over and writing back.
  const between = Math.max(0, Object.values(stages).reduce((rest, ms) => rest - ms, total));
  return Object.entries({ ...stages, between, total }).flatMap(([stage, ms]) => [
    element("dt", {}, STAGES[stage] ?? stage),
    element(
      "dd",
      {},
      element("span", { class: "meter", "aria-hidden": "true", "--share": Math.min(1, ms / total) }),
      `${ms.toFixed(1)} ms`,
    ),
  ]);
}

export function facts({ video, model }) {
  const rate = video.fps ? `, ${Number(video.fps.toFixed(2))} fps` : "";
  return (
    `${seconds(video.duration_s)}, ${video.width} × ${video.height}${rate}, ${video.codec} in ${video.container}; ` +
    `${video.frames_decoded} frames decoded; ${model.name} version ${model.version}`
  );
}

/** A problem in the service's own words, with the limit and the value that broke it. */
export function problemText(problem) {
  const { code, detail, limit, actual, request_id: id } = problem.body;
  const more = [
    ["limit", limit],
    ["actual", actual],
    ["try again in", problem.retryAfter === null ? null : `${problem.retryAfter} s`],
    ["request", id],
  ].filter(([, value]) => value !== null && value !== undefined);
  return [
    element("p", {}, element("strong", {}, spaced(code)), ` ${detail}`),
    element("dl", { class: "problem-facts" }, ...more.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, String(value))])),
  ];
}
