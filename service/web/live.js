// The camera, classified while it films: pieces of a recording go up, windows come back.

import { Problem, follow, get, post } from "./api.js";
import { $, element, seconds, spaced } from "./dom.js";
import { chosenModel } from "./models.js";
import { palette } from "./palette.js";
import { NOTHING_CLEAR, best, said } from "./verdict.js";

const KINDS = ["video/webm; codecs=vp8", "video/webm; codecs=vp9", "video/webm", "video/mp4"];
const PIECE_MS = 500;
// So much of the past is shown, and as many of its windows.
const SHOWN_S = 60;
// A sender that lags this far behind its camera has a line that is too slow.
const MOST_PIECES = 60;

export class LiveCamera {
  /** `fail(error)` is called with what ends a session before its visitor does, `say(text)` with what is heard of it. */
  constructor(fail, say) {
    this.fail = fail;
    this.say = say;
    this.session = null;
    $("live-stop").addEventListener("click", () => this.stop());
  }

  async start() {
    await this.stop();
    const session = { windows: [], dropped: 0, pieces: [], offset: 0, ending: new AbortController() };
    this.session = session;
    try {
      session.camera = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 } } });
      const begun = await post("v1/streams", JSON.stringify({ ...chosenModel(), step: 0.5, attention: "none" }), "application/json");
      session.stream = begun;
      $("live").hidden = false;
      $("live-view").srcObject = session.camera;
      $("live-said").textContent = "Waiting for the first window…";
      $("live-stop").focus();
      this.#show(session);
      await Promise.all([$("live-view").play(), this.#send(session), this.#hear(session)]);
    } catch (error) {
      if (this.session === session && error.name !== "AbortError") this.fail(cause(error));
    } finally {
      await this.#release(session);
    }
  }

  async stop() {
    const { session } = this;
    if (session) await this.#release(session);
  }

  async #release(session) {
    if (this.session !== session) return;
    this.session = null;
    session.ending.abort();
    if (session.recording?.state === "recording") session.recording.stop();
    session.camera?.getTracks().forEach((track) => track.stop());
    $("live-view").srcObject = null;
    $("live").hidden = true;
    // Without an end the session would wait for more for a while.
    if (session.stream) await get(`v1/streams/${session.stream.id}`, "DELETE").catch(() => {});
  }

  /** Record, and send one piece after the other: each says where it begins. */
  async #send(session) {
    const type = KINDS.find((kind) => MediaRecorder.isTypeSupported(kind));
    let more = null;
    session.recording = new MediaRecorder(session.camera, { mimeType: type });
    session.recording.addEventListener("dataavailable", ({ data }) => {
      session.pieces.push(data);
      more?.();
    });
    session.recording.start(PIECE_MS);
    while (this.session === session) {
      if (session.pieces.length === 0) await new Promise((resolve) => (more = resolve));
      if (session.pieces.length > MOST_PIECES) throw new Error("The connection is too slow for this camera.");
      // What has gathered goes at once.
      const piece = new Blob(session.pieces.splice(0), { type: "application/octet-stream" });
      if (piece.size === 0 || this.session !== session) continue;
      await post(`v1/streams/${session.stream.id}/media?offset=${session.offset}`, piece, piece.type, session.ending.signal);
      session.offset += piece.size;
    }
  }

  async #hear(session) {
    await follow(`v1/streams/${session.stream.id}/events`, session.ending.signal, (event, known) => {
      if (event === "window") session.windows.push(known);
      if (event === "dropped") session.dropped += known.windows;
      if (known.state === "ended" && this.session === session) {
        throw new Problem({ code: known.reason, detail: known.detail ?? `The session has ended: ${known.reason}.` });
      }
      this.#show(session);
    });
  }

  #show({ windows, dropped }) {
    const latest = windows.at(-1);
    const until = latest?.end_s ?? 0;
    const from = Math.max(0, until - SHOWN_S);
    while (windows.length > 0 && windows[0].end_s < from) windows.shift();
    const colours = palette(windows);
    const bands = windows.map((window, index) => {
      const first = best(window);
      // Windows overlap: each is shown until the next one begins.
      const end = windows[index + 1]?.start_s ?? window.end_s;
      const start = Math.max(from, window.start_s);
      return element("span", {
        class: `segment ${first ? colours.of(first.label) : "colour-other"}`,
        title: `${seconds(window.start_s)} to ${seconds(window.end_s)}: ${said(window)}`,
        "--from": (start - from) / SHOWN_S,
        "--width": Math.max(0, end - start) / SHOWN_S,
      });
    });
    $("live-row").replaceChildren(...bands);
    $("live-row").setAttribute("aria-label", `The last ${windows.length} windows${latest ? `; the latest: ${said(latest)}` : ""}`);
    if (!latest) return;
    $("live-said").textContent = said(latest);
    // Without the score, which changes with every window.
    this.say(`Live: ${spaced(best(latest)?.label ?? NOTHING_CLEAR)}`);
    const late = `${seconds(latest.delay_s)} after it was filmed`;
    $("live-facts").textContent = dropped ? `${late}; ${dropped} windows were left out` : late;
  }
}

/** What a browser refuses has a name that tells a visitor little. */
const cause = (error) =>
  error.name === "NotAllowedError" || error.name === "NotFoundError"
    ? new Problem({ code: "no_camera", detail: `The browser gives this page no camera: ${error.message}` })
    : error;
