// How much of a video the timeline shows, and which part: zoom, scroll, and the scale of times below.

import { element } from "./dom.js";
import { clock } from "./moments.js";

const STEP = 2;
// Nobody needs a second to be wider than this.
const WIDEST_SECOND = 120;
const TICK_PX = 90;
const TICKS_S = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];

export class Zoom {
  /** Scrolls `content`, which is as wide as `root` at first; `changed()` is called after the scale has changed. */
  constructor(root, content, scale, duration, changed) {
    this.root = root;
    this.content = content;
    this.scale = scale;
    this.duration = duration;
    this.changed = changed;
    this.factor = 1;
    root.addEventListener("scroll", () => this.#ticks(), { passive: true });
    // Ctrl and the wheel, which is also what a pinch on a touchpad sends.
    root.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.watch = new ResizeObserver(() => this.#changed());
    this.watch.observe(root);
  }

  /** The buttons, for a toolbar. */
  buttons() {
    const make = (text, label, act) => {
      const button = element("button", { type: "button", "aria-label": label, title: label }, text);
      button.addEventListener("click", act);
      return button;
    };
    this.out = make("−", "Zoom the timeline out", () => this.to(this.factor / STEP));
    this.in = make("+", "Zoom the timeline in", () => this.to(this.factor * STEP));
    this.whole = make("Whole video", "Show the whole video", () => this.to(1));
    this.#buttons();
    return [this.out, this.in, this.whole];
  }

  get most() {
    return Math.max(1, (WIDEST_SECOND * this.duration) / Math.max(1, this.root.clientWidth));
  }

  /** Pixels of one second. */
  get perSecond() {
    return this.content.clientWidth / this.duration;
  }

  /** Zoom to a factor, and keep the `time` under the pixel `at` of the visible part; the middle by default. */
  to(factor, at = this.root.clientWidth / 2) {
    const time = (this.root.scrollLeft + at) / this.perSecond;
    this.factor = Math.min(this.most, Math.max(1, factor));
    this.content.style.setProperty("--zoom", this.factor);
    this.root.scrollLeft = time * this.perSecond - at;
    this.#changed();
  }

  /** Scroll so that `time` is seen, if it is not. */
  reveal(time) {
    const at = time * this.perSecond;
    const { scrollLeft: left, clientWidth: width } = this.root;
    if (at < left || at > left + width) this.root.scrollLeft = at - width / 4;
  }

  close() {
    this.watch.disconnect();
  }

  #wheel(event) {
    if (!event.ctrlKey) return;
    event.preventDefault();
    this.to(this.factor * Math.exp(-event.deltaY / 200), event.clientX - this.root.getBoundingClientRect().left);
  }

  #changed() {
    this.#ticks();
    this.#buttons();
    this.changed();
  }

  #buttons() {
    if (!this.out) return;
    this.out.disabled = this.whole.disabled = this.factor <= 1;
    this.in.disabled = this.factor >= this.most;
  }

  #ticks() {
    const { perSecond } = this;
    if (!(perSecond > 0)) return;
    const step = TICKS_S.find((seconds) => seconds * perSecond >= TICK_PX) ?? TICKS_S.at(-1);
    const first = Math.floor(this.root.scrollLeft / perSecond / step);
    const last = Math.min(this.duration / step, (this.root.scrollLeft + this.root.clientWidth) / perSecond / step);
    const ticks = [];
    for (let number = first; number <= last; number += 1) {
      const time = number * step;
      // The last one would stick out of the end.
      if (time > 0 && (this.duration - time) * perSecond < TICK_PX / 2) break;
      ticks.push(element("span", { "--from": time / this.duration }, clock(time, step < 1)));
    }
    this.scale.replaceChildren(...ticks);
  }
}
