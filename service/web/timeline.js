// The whole video from left to right: shots, events, each window in the colour of its label, the attention inside it,
// the playhead.

import { bandRows } from "./bands.js";
import { curve } from "./curve.js";
import { drawing, element, reach, roving, seconds, spaced } from "./dom.js";
import { palette } from "./palette.js";
import { best, said } from "./verdict.js";
import { Zoom } from "./zoom.js";

// A label that has less room cannot be read; its name is in the legend and in the tooltip.
const ROOM_FOR_A_NAME_PX = 70;
// Shorter videos are seen whole; in longer ones tenths of a second are noise.
const ZOOMABLE_S = 15;
const FINE_S = 60;

export class Timeline {
  /**
   * Fills `root` and `legend`; `choose(window number)`, `seek(time)` and `play(start, end)` are called for what is
   * clicked: a window, the curve, an event or a shot.
   */
  constructor(root, legend, answer, { choose, seek, play }) {
    const { video, windows, events } = answer;
    this.windows = windows;
    this.duration = Math.max(video.duration_s, ...windows.map((window) => window.end_s), 1e-9);
    const colours = palette(windows, events);
    this.rows = bandRows(answer, this.duration, colours, this.duration < FINE_S, play);
    this.segments = windows.map((window, index) => this.#segment(window, index, colours));
    const chart = this.#chart(windows);
    chart.addEventListener("click", (event) => {
      const box = chart.getBoundingClientRect();
      seek(((event.clientX - box.left) / box.width) * this.duration);
    });
    this.playhead = element("span", { class: "playhead", "aria-hidden": "true" });
    const scale = element("div", { class: "scale", "aria-hidden": "true" });
    const lanes = element("div", { class: "lanes" }, ...this.rows.map(({ node }) => node), ...this.#windowRow(choose), chart, scale, this.playhead);
    const scroll = element("div", { class: "timeline-scroll", role: "group", "aria-label": "Timeline" }, lanes);
    this.zoom = new Zoom(scroll, lanes, scale, this.duration, () => this.#name(scroll));
    const tools = element("div", { class: "zoom", role: "group", "aria-label": "Zoom of the timeline" });
    if (this.duration > ZOOMABLE_S) tools.append(...this.zoom.buttons());
    root.replaceChildren(tools, scroll);
    legend.replaceChildren(...this.#legend(colours, windows.length));
  }

  at(time) {
    this.playhead.style.setProperty("--at", Math.min(1, time / this.duration));
    for (const row of this.rows) row.at(time);
    // Only where the time has moved: a visitor who looks elsewhere is left there.
    if (time !== this.time) this.zoom.reveal(time);
    this.time = time;
  }

  select(index) {
    this.segments.forEach((segment, other) => segment.setAttribute("aria-pressed", String(other === index)));
    reach(this.segments, index);
  }

  /** Let go of what watches the page. */
  close() {
    this.zoom.close();
  }

  #windowRow(choose) {
    if (this.segments.length === 0) return [];
    this.segments.forEach((segment, index) => segment.addEventListener("click", () => choose(index)));
    // Windows that overlap take turns in two rows; otherwise the later would hide the earlier.
    const { windows } = this;
    const overlapping = windows.some((window, index) => index > 0 && window.start_s < windows[index - 1].end_s - 1e-3);
    const lane = element("div", { class: overlapping ? "lane two-rows" : "lane", role: "toolbar", "aria-label": "Windows" }, ...this.segments);
    roving(lane, this.segments);
    const name = element("p", { class: "row-name", "aria-hidden": "true" }, "Windows");
    return [this.rows.length > 0 ? element("div", { class: "band-row" }, name, lane) : lane];
  }

  // Names are written where they have room, which changes with the zoom.
  #name(scroll) {
    const { perSecond } = this.zoom;
    for (const row of this.rows) row.name(perSecond);
    this.segments.forEach((segment, index) => {
      const { start_s: start, end_s: end } = this.windows[index];
      const first = best(this.windows[index]);
      const text = first && (end - start) * perSecond > ROOM_FOR_A_NAME_PX ? spaced(first.label) : "";
      if (segment.textContent !== text) segment.textContent = text;
    });
    // What scrolls sideways must be in reach of the keyboard.
    scroll.tabIndex = scroll.scrollWidth > scroll.clientWidth ? 0 : -1;
  }

  #segment(window, index, colours) {
    const { start_s: start, end_s: end } = window;
    const first = best(window);
    const text = `Window ${index + 1}, ${seconds(start)} to ${seconds(end)}: ${said(window)}`;
    return element(
      "button",
      {
        type: "button",
        class: `segment ${first ? colours.of(first.label) : "colour-other"}`,
        title: text,
        "aria-label": text,
        "aria-pressed": "false",
        "--from": start / this.duration,
        "--width": (end - start) / this.duration,
      },
    );
  }

  #chart(windows) {
    const highest = Math.max(...windows.flatMap((window) => (window.attention ?? []).map((frame) => frame.score)), 1e-9);
    const svg = drawing("svg", { class: "over-time", viewBox: "0 0 1000 100", preserveAspectRatio: "none", "aria-hidden": "true" });
    for (const { attention } of windows) {
      // A last frame that stands in for missing ones has one place in time.
      const frames = (attention ?? []).filter((frame, i, all) => i === 0 || frame.time_s > all[i - 1].time_s);
      if (frames.length < 2) continue;
      const points = frames.map(({ time_s: time, score }) => [(1000 * time) / this.duration, 98 - (92 * score) / highest]);
      const line = curve(points);
      svg.append(
        drawing("path", { class: "area", d: `${line}L${points.at(-1)[0]} 100L${points[0][0]} 100Z` }),
        drawing("path", { class: "line", d: line }),
      );
    }
    return svg;
  }

  #legend({ of, ranked, count }, windows) {
    return ranked.filter((label) => count.has(label)).map((label) =>
      element(
        "li",
        {},
        element("span", { class: `swatch ${of(label)}`, "aria-hidden": "true" }),
        `${spaced(label)} `,
        element("span", { class: "quiet" }, `${count.get(label)} of ${windows}`),
      ),
    );
  }
}
