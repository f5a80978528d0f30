// One window: its sampled frames with their attention, which of them the network kept, and where it dropped the others.

import { curve } from "./curve.js";
import { drawing, element, percent, reach, roving, seconds } from "./dom.js";
import { causes, signed } from "./evidence.js";
import { drawMap, highestOf } from "./where.js";

const KEPT = 0.995;
const GONE = 0.005;

/** What became of a frame: `kept`, `dropped` with the layer that dropped its last part, or `partly`. */
export function fate({ retention, layer_retention: layers }) {
  if (retention >= KEPT) return { kind: "kept", short: ["kept"], text: "kept to the last layer" };
  if (retention > GONE) {
    return { kind: "partly", short: [`${Math.round(100 * retention)} %`, "kept"], text: `${percent(retention)} of its places kept to the last layer` };
  }
  const layer = (layers ?? []).findIndex((share) => share <= GONE) + 1;
  return layer > 0
    ? { kind: "dropped", short: ["dropped at", `layer ${layer}`], text: `dropped by layer ${layer}` }
    : { kind: "dropped", short: ["dropped"], text: "dropped on the way" };
}

export class Strip {
  /**
   * Fills `root` and `table` with a window's frames. Bars are `highest` high at most, in all windows alike, so that
   * windows can be compared. `seek(time)` is called for a frame that is chosen. Without attention both are hidden.
   */
  constructor(root, table, window, { highest, aspect, seek }) {
    this.window = window;
    this.aspect = aspect;
    this.frames = window.attention ?? [];
    const evidence = causes(window);
    this.columns = this.frames.map((frame, index) => column(frame, evidence[index], this.frames.length, highest, aspect));
    this.columns.forEach(({ button }, index) => button.addEventListener("click", () => seek(this.frames[index].time_s)));
    const buttons = this.columns.map(({ button }) => button);
    const row = element("div", { class: "frames", role: "toolbar", "aria-label": "Sampled frames" }, ...buttons);
    roving(row, buttons);
    this.playhead = element("span", { class: "playhead", "aria-hidden": "true" });
    for (const node of [root, table]) node.style.setProperty("--frames", this.frames.length);
    const even = 1 / Math.max(1, this.frames.length);
    const evenShare = element("span", { class: "even-share", "aria-hidden": "true", "--even": 1 - even / highest }, percent(even));
    root.hidden = this.frames.length === 0;
    root.replaceChildren(row, overlay(this.frames, highest), evenShare, this.playhead);
    table.replaceChildren(...layerRows(this.frames));
    table.hidden = !this.frames[0]?.layer_scores;
  }

  /** Draw the pictures; `draw(time, canvas)` rejects where the browser cannot. */
  async fill(draw) {
    for (const [index, { canvas }] of this.columns.entries()) {
      if (!canvas.isConnected) return;
      await draw(this.frames[index].time_s, canvas);
      canvas.classList.add("drawn");
    }
  }

  /** Lay the maps of a view over the pictures, or take them away where there is none. */
  look(view) {
    for (const { button } of this.columns) button.querySelector(".map")?.remove();
    if (!view) return;
    const highest = highestOf(view);
    for (const [index, { canvas }] of this.columns.entries()) {
      const grid = view.frames[index];
      if (!grid) continue;
      const map = element("canvas", { class: "map", "aria-hidden": "true", "--aspect": this.aspect });
      drawMap(map, grid, view.region, highest, this.aspect);
      canvas.after(map);
    }
  }

  /** Move the playhead, and mark the frame that is shown; returns whether the time lies in this window. */
  at(time) {
    const { start_s: start, end_s: end } = this.window;
    const within = time >= start - 1e-3 && time <= end;
    this.playhead.hidden = !within;
    if (this.frames.length === 0) return within;
    const shown = within ? this.frames.findLastIndex((frame) => frame.time_s <= time + 1e-3) : -1;
    this.columns.forEach(({ button }, index) => button.setAttribute("aria-pressed", String(index === shown)));
    if (within) {
      this.playhead.style.setProperty("--at", this.#place(time, Math.max(0, shown)) / this.frames.length);
      reach(this.columns.map(({ button }) => button), Math.max(0, shown));
    }
    return within;
  }

  // Frames stand at the middle of their columns; between two of them time runs evenly.
  #place(time, shown) {
    const from = this.frames[shown].time_s;
    const next = this.frames[shown + 1]?.time_s;
    const [until, room] = next > from ? [next, 1] : [this.window.end_s, 0.5];
    return shown + 0.5 + room * Math.min(1, Math.max(0, (time - from) / Math.max(until - from, 1e-9)));
  }
}

function column(frame, cause, count, highest, aspect) {
  const { kind, short, text } = fate(frame);
  const label = `Frame ${frame.frame + 1} of ${count} at ${seconds(frame.time_s)}: attention ${percent(frame.score)}, ${text}${said(cause)}`;
  const canvas = element("canvas", { "aria-hidden": "true", "--aspect": aspect });
  const button = element(
    "button",
    { type: "button", class: `frame ${kind}${cause ? " caused" : ""}${cause?.enough ? " enough" : ""}`, title: label, "aria-label": label, "aria-pressed": "false" },
    element("span", { class: "share" }, ...measured(percent(frame.score))),
    element("span", { class: "bar", "--height": frame.score / highest }),
    ...(cause ? [element("span", { class: "cause", "--height": cause.share })] : []),
    canvas,
    element("span", { class: "time" }, ...measured(seconds(frame.time_s))),
    ...(cause ? [element("span", { class: "gain" }, signed(cause.contribution))] : []),
    element("span", { class: "fate" }, ...short.flatMap((part) => [element("span", {}, part), " "])),
  );
  return { button, canvas };
}

function said(cause) {
  if (!cause) return "";
  return `, adds ${signed(cause.contribution)} to the score${cause.enough ? ", one of those that are enough" : ""}`;
}

// Units are left out where columns are narrow.
function measured(text) {
  const [number, unit] = text.split(" ");
  return unit ? [number, element("span", { class: "unit" }, ` ${unit}`)] : [number];
}

function overlay(frames, highest) {
  const points = frames.map(({ score }, index) => [index + 0.5, 1 - score / highest]);
  const even = 1 - 1 / Math.max(1, frames.length) / highest;
  return drawing(
    "svg",
    { class: "curve", viewBox: `0 0 ${Math.max(1, frames.length)} 1`, preserveAspectRatio: "none", "aria-hidden": "true" },
    drawing("line", { class: "even", x1: 0, x2: frames.length, y1: even, y2: even }),
    drawing("path", { class: "line", d: curve(points) }),
  );
}

function layerRows(frames) {
  if (!frames[0]?.layer_scores) return [];
  const caption = element("caption", {}, "Attention of each layer, and where frames were dropped");
  const head = element(
    "tr",
    {},
    element("th", { scope: "col", class: "corner" }, "Layer"),
    ...frames.map((frame) => element("th", { scope: "col" }, seconds(frame.time_s))),
  );
  const rows = frames[0].layer_scores.map((_, layer) => {
    const highest = Math.max(...frames.map((frame) => frame.layer_scores[layer]), 1e-9);
    const cells = frames.map((frame) => layerCell(frame, layer, highest));
    return element("tr", {}, element("th", { scope: "row" }, String(layer + 1)), ...cells);
  });
  return [caption, element("thead", {}, head), element("tbody", {}, ...rows)];
}

function layerCell({ layer_scores: scores, layer_retention: retention }, layer, highest) {
  const before = layer === 0 ? 1 : retention[layer - 1];
  if (before <= GONE) return element("td", { class: "gone" }, element("span", { class: "hidden" }, "dropped before"));
  const leaves = retention[layer] <= GONE;
  const share = element("span", { class: "heat", "--heat": scores[layer] / highest }, ...measured(percent(scores[layer])));
  return leaves
    ? element("td", { class: "leaves" }, share, element("span", { class: "drop" }, element("span", { class: "unit" }, "dropped")))
    : element("td", {}, share);
}
