// Pictures of single frames, drawn from the file itself: the service does not send any.

import { inside, metadata, until } from "./player.js";

const WIDTH = 240;
const TRIES = 3;
const PATIENCE_MS = 8000;
// A browser shows a picture within some tens of milliseconds of a seek, where it says so at all.
const PRESENTED_MS = 2000;

export class FrameReader {
  /** Reads frames of `file` one after the other, beside the video that plays. */
  constructor(file) {
    this.closing = new AbortController();
    this.known = new Map();
    this.last = Promise.resolve();
    this.#open(URL.createObjectURL(file));
  }

  /** Draw the frame that is shown at `time` onto `canvas`, unless the canvas has left the page by then. */
  draw(time, canvas) {
    return this.#inTurn(async () => {
      if (canvas.isConnected) paint(canvas, await this.#picture(time));
    });
  }

  /** The frame at `time` as a small JPEG. */
  async picture(time) {
    const canvas = document.createElement("canvas");
    await this.#inTurn(async () => paint(canvas, await this.#picture(time)));
    return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.8));
  }

  /** Let go of the file; pending requests for a picture end without one. */
  close() {
    this.closing.abort();
    URL.revokeObjectURL(this.video.src);
    this.#drop();
    for (const picture of this.known.values()) picture.close();
    this.known.clear();
  }

  #inTurn(task) {
    const done = this.last.then(task);
    this.last = done.catch(() => {});
    return done;
  }

  #open(url) {
    this.video = document.createElement("video");
    this.video.muted = true;
    this.video.preload = "auto";
    this.video.src = url;
    this.measured = false;
  }

  #drop() {
    this.video.removeAttribute("src");
    this.video.load();
  }

  // A browser that is short of players or of decoders lets a seek lie forever: another player may get its turn.
  async #picture(time) {
    for (let tries = 1; !this.known.has(time); tries += 1) {
      this.closing.signal.throwIfAborted();
      const signal = AbortSignal.any([this.closing.signal, AbortSignal.timeout(tries * PATIENCE_MS)]);
      try {
        this.known.set(time, await unless(signal, this.#read(time, signal)));
      } catch (error) {
        if (tries === TRIES || this.closing.signal.aborted || this.video.error) throw error;
        const url = this.video.src;
        this.#drop();
        this.#open(url);
      }
    }
    return this.known.get(time);
  }

  async #read(time, signal) {
    const { video } = this;
    if (!this.measured) await metadata(video, signal);
    this.measured = true;
    const seeked = until(video, "seeked", signal);
    const shown = presented(video);
    video.currentTime = inside(time);
    // A busy browser says that it has sought before the picture is there: the one before would be drawn.
    await Promise.all([seeked, shown]);
    const { videoWidth: width, videoHeight: height } = video;
    const resizeWidth = Math.min(WIDTH, width);
    const resizeHeight = Math.max(1, Math.round((resizeWidth * height) / width));
    return createImageBitmap(video, { resizeWidth, resizeHeight, resizeQuality: "high" });
  }
}

/** Resolves once the video shows its next picture, or can't be known to. */
function presented(video) {
  if (document.hidden || !video.requestVideoFrameCallback) return Promise.resolve();
  const late = new Promise((resolve) => setTimeout(resolve, PRESENTED_MS));
  return Promise.race([late, new Promise((resolve) => video.requestVideoFrameCallback(resolve))]);
}

function unless(signal, promise) {
  return Promise.race([promise, new Promise((_, reject) => signal.addEventListener("abort", reject))]);
}

function paint(canvas, picture) {
  canvas.width = picture.width;
  canvas.height = picture.height;
  canvas.getContext("2d").drawImage(picture, 0, 0);
}
