// Shows an answer. Text from the service enters the page as text nodes only: labels are not trusted to be harmless.

const seconds = (value) => `${value.toFixed(2)} s`;
const percent = (value) => `${(100 * value).toFixed(1)} %`;

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export function labelList(predictions) {
  if (predictions.length === 0) return [element("li", {}, "no label reaches the lowest score asked for")];
  return predictions.map(({ label, score }) =>
    element(
      "li",
      {},
      element("span", { class: "name" }, label),
      element("span", { class: "score" }, percent(score)),
      element("span", { class: "meter", "aria-hidden": "true", style: `--share: ${score}` }),
    ),
  );
}

export function warningList(warnings) {
  return warnings.map(({ code, detail }) => element("li", {}, element("strong", {}, code.replaceAll("_", " ")), ` ${detail}`));
}

export function timingList(timings) {
  return Object.entries(timings).flatMap(([stage, ms]) => [
    element("dt", {}, stage),
    element("dd", {}, `${ms.toFixed(1)} ms`),
  ]);
}

export function facts({ video, coverage, model }) {
  const rate = video.fps ? `, ${video.fps.toFixed(2)} fps` : "";
  return (
    `${video.container} / ${video.codec}, ${video.width} × ${video.height}${rate}, ${seconds(video.duration_s)}; ` +
    `${percent(coverage)} of it inside windows; ${video.frames_decoded} frames decoded; ` +
    `answered by ${model.name} version ${model.version}`
  );
}

export function problemText(problem) {
  const { code, detail, limit, actual, request_id: id } = problem.body;
  const lines = [element("p", {}, element("strong", {}, code.replaceAll("_", " ")), ` ${detail}`)];
  const more = [];
  if (limit != null) more.push(`limit: ${limit}`);
  if (actual != null) more.push(`actual: ${actual}`);
  if (problem.retryAfter) more.push(`try again in ${problem.retryAfter} s`);
  if (id) more.push(`request ${id}`);
  if (more.length > 0) lines.push(element("p", { class: "note" }, more.join(" · ")));
  return lines;
}

/** Segments of the windows on a strip as long as the video, and a playhead that `at(time)` moves. */
export function timeline(strip, { video, windows, coverage }) {
  const share = (time) => `${(100 * time) / Math.max(video.duration_s, 1e-9)}%`;
  const segments = windows.map(({ start_s: start, end_s: end }) =>
    element("span", { class: "segment", style: `left: ${share(start)}; width: ${share(end - start)}` }),
  );
  const playhead = element("span", { class: "playhead" });
  strip.replaceChildren(...segments, playhead);
  strip.setAttribute("aria-label", `${windows.length} windows cover ${percent(coverage)} of the video`);
  return (time) => playhead.style.setProperty("left", share(Math.min(time, video.duration_s)));
}

/** One chart per window; `seek(time)` is called for a bar that is chosen. */
export function windowCharts(windows, seek) {
  const highest = Math.max(...windows.flatMap((window) => (window.attention ?? []).map((frame) => frame.score)));
  return windows.map((window, index) => {
    const best = window.predictions[0];
    const span = `${seconds(window.start_s)} – ${seconds(window.end_s)}`;
    const list = element("ol", { class: "labels small" }, ...labelList(window.predictions));
    return element(
      "article",
      { "aria-label": `Window ${index + 1}, ${span}${best ? `: ${best.label}` : ""}` },
      element("h3", {}, span),
      window.attention ? chart(window.attention, highest, seek) : "",
      list,
    );
  });
}

function chart(frames, highest, seek) {
  const even = 1 / frames.length / highest;
  const bars = frames.map((frame, index) => {
    const kept = percent(frame.retention);
    const text = `Frame ${frame.frame + 1} at ${seconds(frame.time_s)}: attention ${percent(frame.score)}, retention ${kept}`;
    const bar = element("button", {
      type: "button",
      class: "bar",
      title: text,
      "aria-label": text,
      tabindex: index === 0 ? "0" : "-1",
      "data-time": frame.time_s,
      style: `--height: ${frame.score / highest}; --kept: ${frame.retention}`,
    });
    bar.addEventListener("click", () => seek(frame.time_s));
    return bar;
  });
  const row = element(
    "div",
    { class: "bars", role: "toolbar", "aria-label": "Attention of the sampled frames", style: `--even: ${Math.min(even, 1)}` },
    ...bars,
  );
  row.addEventListener("keydown", (event) => moveAlong(event, bars));
  return row;
}

// One tab stop per chart: with hundreds of windows nobody could tab past the bars.
function moveAlong(event, bars) {
  const from = bars.indexOf(event.target);
  const last = bars.length - 1;
  const to = { ArrowLeft: Math.max(0, from - 1), ArrowRight: Math.min(last, from + 1), Home: 0, End: last }[event.key];
  if (from < 0 || to === undefined) return;
  event.preventDefault();
  bars[from].tabIndex = -1;
  bars[to].tabIndex = 0;
  bars[to].focus();
}
