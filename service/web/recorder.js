// A snippet of the webcam or the screen, recorded in the browser and handed on as a file.

import { $ } from "./dom.js";

const LONGEST_S = 30;
const KINDS = ["video/webm; codecs=vp9", "video/webm; codecs=vp8", "video/webm", "video/mp4"];

const SOURCES = {
  webcam: { title: "Record the webcam", open: () => navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 } } }) },
  screen: { title: "Record the screen", open: () => navigator.mediaDevices.getDisplayMedia({ video: { frameRate: 30 } }) },
};

/** Whether this page may record at all: not over plain HTTP from another machine. */
export const canRecord = () => Boolean(navigator.mediaDevices?.getUserMedia && window.MediaRecorder);

export class Recorder {
  /** `take(file)` is called with each recording. */
  constructor(take) {
    this.take = take;
    this.stream = null;
    this.recording = null;
    this.clock = null;
    $("record").addEventListener("click", () => (this.recording ? this.recording.stop() : this.#record()));
    $("recorder-close").addEventListener("click", () => $("recorder").close());
    $("recorder").addEventListener("close", () => this.#release());
  }

  async open(source) {
    this.source = source;
    $("recorder-title").textContent = SOURCES[source].title;
    $("recorder-state").textContent = "Waiting for permission…";
    $("record").disabled = true;
    $("recorder").showModal();
    try {
      const stream = await SOURCES[source].open();
      // Closed while the browser was still asking.
      if (!$("recorder").open) return stream.getTracks().forEach((track) => track.stop());
      this.stream = stream;
      stream.getVideoTracks()[0].addEventListener("ended", () => this.recording?.stop());
      $("preview").srcObject = stream;
      await $("preview").play();
      $("recorder-state").textContent = `Up to ${LONGEST_S} seconds, without sound.`;
      $("record").disabled = false;
      $("record").focus();
    } catch (error) {
      $("recorder-state").textContent = `The browser does not let this page record: ${error.message}`;
    }
  }

  #record() {
    const type = KINDS.find((kind) => MediaRecorder.isTypeSupported(kind));
    const chunks = [];
    const recording = new MediaRecorder(this.stream, { mimeType: type });
    recording.addEventListener("dataavailable", ({ data }) => chunks.push(data));
    recording.addEventListener("stop", () => {
      const wanted = this.recording === recording;
      if (wanted) $("recorder").close();
      if (wanted && chunks.length > 0) this.take(this.#file(chunks, recording.mimeType || type));
    });
    this.recording = recording;
    recording.start();
    const started = performance.now();
    $("record").textContent = "Stop and classify";
    $("recorder-state").textContent = "Recording.";
    this.clock = setInterval(() => {
      const passed = Math.floor((performance.now() - started) / 1000);
      $("record").textContent = `Stop and classify (${passed} s)`;
      if (passed >= LONGEST_S) recording.stop();
    }, 250);
  }

  #file(chunks, type) {
    const [kind] = type.split(";");
    const stamp = new Date().toISOString().replace(/\..*/, "").replaceAll(/[-:]/g, "").replace("T", "-");
    return new File(chunks, `${this.source}-${stamp}.${kind.split("/")[1]}`, { type: kind });
  }

  #release() {
    clearInterval(this.clock);
    const { recording } = this;
    this.recording = null;
    if (recording && recording.state !== "inactive") recording.stop();
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
    $("preview").srcObject = null;
    $("record").textContent = "Record";
  }
}
