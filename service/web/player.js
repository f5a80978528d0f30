// The video on the page: one place that knows the time, whether or not the browser can play the file.

const endless = 1e9;

export class Player extends EventTarget {
  /** Dispatches `move` when the time has changed and `unplayable` when the file cannot be shown. */
  constructor(video) {
    super();
    this.video = video;
    this.playable = false;
    this.own = 0;
    this.until = Infinity;
    video.addEventListener("error", () => this.#fail());
    for (const name of ["timeupdate", "seeking", "seeked", "loadeddata"]) video.addEventListener(name, () => this.#moved());
    video.addEventListener("play", () => this.#watch());
  }

  get time() {
    return this.playable ? this.video.currentTime : this.own;
  }

  /** Show a file, or nothing where there is none. */
  async load(file) {
    this.own = 0;
    this.playable = Boolean(file);
    URL.revokeObjectURL(this.video.src);
    if (!file) {
      this.video.removeAttribute("src");
      return this.#fail();
    }
    this.video.src = URL.createObjectURL(file);
    await metadata(this.video).catch(() => {});
  }

  seek(time) {
    this.own = time;
    this.until = Infinity;
    this.video.pause();
    if (this.playable) this.video.currentTime = inside(time);
    this.#moved();
  }

  /** Play from `start` to `end` and stop there; where the file cannot be played, only go to `start`. */
  play(start, end) {
    this.seek(start);
    if (!this.playable) return;
    this.until = end;
    // A browser may refuse to play what nobody has clicked on.
    this.video.play().catch(() => {});
  }

  #fail() {
    this.playable = false;
    this.dispatchEvent(new Event("unplayable"));
  }

  #moved() {
    this.dispatchEvent(new Event("move"));
  }

  // The browser tells the time four times a second; a playhead that moves with the picture asks at every frame.
  #watch() {
    if (this.video.paused || this.video.ended) return;
    if (this.video.currentTime >= this.until) {
      this.until = Infinity;
      this.video.pause();
    }
    this.#moved();
    requestAnimationFrame(() => this.#watch());
  }
}

/** A time within the frame that starts at `time`: browsers and containers round starts in different directions. */
export const inside = (time) => time + 0.002;

/** Resolves when `video` knows its size and length, also for recordings that do not say how long they are. */
export async function metadata(video, signal) {
  if (video.readyState < 1) await until(video, "loadedmetadata", signal);
  if (video.duration === Infinity) {
    video.currentTime = endless;
    await until(video, "seeked", signal);
    video.currentTime = 0;
    await until(video, "seeked", signal);
  }
}

/** Resolves at the next event of this name; rejects when the video fails first, or `signal` is aborted. */
export function until(video, name, signal) {
  return new Promise((resolve, reject) => {
    const settled = new AbortController();
    const settle = (how) => (event) => {
      settled.abort();
      how(event);
    };
    video.addEventListener(name, settle(resolve), { signal: settled.signal });
    video.addEventListener("error", settle(reject), { signal: settled.signal });
    signal?.addEventListener("abort", settle(reject), { signal: settled.signal });
  });
}
