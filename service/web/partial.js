// What is known while a video is still being scored: its windows, each in the colour of its label, as they come.

import { element, seconds } from "./dom.js";
import { palette } from "./palette.js";
import { best, said } from "./verdict.js";

export class Partial {
  constructor(root) {
    this.root = root;
    this.clear();
  }

  clear() {
    this.windows = [];
    this.duration = 0;
    this.root.hidden = true;
    this.root.replaceChildren();
  }

  /** The video is known, and with it how long the row is. */
  begin({ duration_s: duration }) {
    this.clear();
    this.duration = duration;
  }

  /** Whether the video is known. */
  get begun() {
    return this.duration > 0;
  }

  /** A window was scored. They need not come in order. */
  add(window) {
    if (!window.predictions || !(this.duration > 0)) return;
    this.windows.push(window);
    this.root.hidden = false;
    if (this.drawing) return;
    // Many may come at once: they are drawn together.
    this.drawing = requestAnimationFrame(() => {
      this.drawing = null;
      this.#draw();
    });
  }

  #draw() {
    const colours = palette(this.windows);
    this.root.replaceChildren(...this.windows.map((window) => this.#segment(window, colours)));
    const latest = this.windows.at(-1);
    if (latest) this.root.setAttribute("aria-label", `${this.windows.length} windows scored so far; the latest: ${said(latest)}`);
  }

  #segment(window, colours) {
    const { start_s: start, end_s: end } = window;
    const first = best(window);
    return element("span", {
      class: `segment ${first ? colours.of(first.label) : "colour-other"}`,
      title: `${seconds(start)} to ${seconds(end)}: ${said(window)}`,
      "--from": start / this.duration,
      "--width": (end - start) / this.duration,
    });
  }
}
