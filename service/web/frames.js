// Pictures of single frames, drawn from the file itself: the service does not send any.

import { inside, metadata, until } from "./player.js";

const WIDTH = 240;

export class FrameReader {
  /** Reads frames of `file` one after the other, beside the video that plays. */
  constructor(file) {
    this.video = document.createElement("video");
    this.video.muted = true;
    this.video.preload = "auto";
    this.video.src = URL.createObjectURL(file);
    this.closing = new AbortController();
    this.ready = metadata(this.video, this.closing.signal);
    this.ready.catch(() => {});
    this.last = this.ready.catch(() => {});
    this.known = new Map();
  }

  /** Draw the frame that is shown at `time` onto `canvas`, unless the canvas has left the page by then. */
  draw(time, canvas) {
    const drawn = this.last.then(async () => {
      await this.ready;
      if (canvas.isConnected) paint(canvas, await this.#picture(time));
    });
    this.last = drawn.catch(() => {});
    return drawn;
  }

  /** The frame at `time` as a small JPEG. */
  async picture(time) {
    const canvas = document.createElement("canvas");
    const drawn = this.last.then(async () => {
      await this.ready;
      paint(canvas, await this.#picture(time));
    });
    this.last = drawn.catch(() => {});
    await drawn;
    return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.8));
  }

  /** Let go of the file; whoever still waits for a picture is told that none comes. */
  close() {
    this.closing.abort();
    URL.revokeObjectURL(this.video.src);
    this.video.removeAttribute("src");
    this.video.load();
    for (const picture of this.known.values()) picture.close();
    this.known.clear();
  }

  async #picture(time) {
    this.closing.signal.throwIfAborted();
    if (!this.known.has(time)) {
      const seeked = until(this.video, "seeked", this.closing.signal);
      this.video.currentTime = inside(time);
      await seeked;
      const { videoWidth: width, videoHeight: height } = this.video;
      const resizeWidth = Math.min(WIDTH, width);
      const resizeHeight = Math.max(1, Math.round((resizeWidth * height) / width));
      this.known.set(time, await createImageBitmap(this.video, { resizeWidth, resizeHeight, resizeQuality: "high" }));
    }
    return this.known.get(time);
  }
}

function paint(canvas, picture) {
  canvas.width = picture.width;
  canvas.height = picture.height;
  canvas.getContext("2d").drawImage(picture, 0, 0);
}
