// The whole video from left to right: each window in the colour of its label, the attention inside it, the playhead.

import { curve } from "./curve.js";
import { drawing, element, reach, roving, seconds, spaced } from "./dom.js";
import { palette } from "./palette.js";
import { best, said } from "./verdict.js";

// Below this share of the width a label cannot be read; its name is in the legend and in the tooltip.
const ROOM_FOR_A_NAME = 0.07;

export class Timeline {
  /** Fills `root` and `legend`; `choose(window number)` and `seek(time)` are called for what is clicked. */
  constructor(root, legend, { video, windows }, { choose, seek }) {
    this.duration = Math.max(video.duration_s, ...windows.map((window) => window.end_s), 1e-9);
    const colours = palette(windows);
    this.segments = windows.map((window, index) => this.#segment(window, index, colours));
    this.segments.forEach((segment, index) => segment.addEventListener("click", () => choose(index)));
    // Windows that overlap take turns in two rows; otherwise the later would hide the earlier.
    const overlapping = windows.some((window, index) => index > 0 && window.start_s < windows[index - 1].end_s - 1e-3);
    const lane = element("div", { class: overlapping ? "lane two-rows" : "lane", role: "toolbar", "aria-label": "Windows" }, ...this.segments);
    roving(lane, this.segments);
    const chart = this.#chart(windows);
    chart.addEventListener("click", (event) => {
      const box = chart.getBoundingClientRect();
      seek(((event.clientX - box.left) / box.width) * this.duration);
    });
    this.playhead = element("span", { class: "playhead", "aria-hidden": "true" });
    const ends = element("p", { class: "ends", "aria-hidden": "true" }, element("span", {}, seconds(0)), element("span", {}, seconds(this.duration)));
    root.replaceChildren(element("div", { class: "lanes" }, lane, chart, this.playhead), ends);
    legend.replaceChildren(...this.#legend(colours, windows.length));
  }

  at(time) {
    this.playhead.style.setProperty("--at", Math.min(1, time / this.duration));
  }

  select(index) {
    this.segments.forEach((segment, other) => segment.setAttribute("aria-pressed", String(other === index)));
    reach(this.segments, index);
  }

  #segment(window, index, colours) {
    const { start_s: start, end_s: end } = window;
    const first = best(window);
    const text = `Window ${index + 1}, ${seconds(start)} to ${seconds(end)}: ${said(window)}`;
    const width = (end - start) / this.duration;
    return element(
      "button",
      {
        type: "button",
        class: `segment ${first ? colours.of(first.label) : "colour-other"}`,
        title: text,
        "aria-label": text,
        "aria-pressed": "false",
        "--from": start / this.duration,
        "--width": width,
      },
      first && width > ROOM_FOR_A_NAME ? spaced(first.label) : "",
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
    return ranked.map((label) =>
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
