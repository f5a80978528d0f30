// Shows one answer: fills the sections of the page and keeps them, the player and the playhead together.

import { $, element, percent, seconds, spaced } from "./dom.js";
import { evidenceOf, evidenceText, faithfulnessText } from "./evidence.js";
import { ExportMenu } from "./exports.js";
import { FrameReader } from "./frames.js";
import { faithfulnessOf } from "./models.js";
import { headlineNodes } from "./moments.js";
import { Player } from "./player.js";
import { curlSnippet, pythonSnippet } from "./snippets.js";
import { Strip } from "./strip.js";
import { facts, labelList, timingList, warningList } from "./summary.js";
import { Timeline } from "./timeline.js";
import { NOTHING_CLEAR, STANDS_OUT, mostAttended } from "./verdict.js";
import { viewOf, whereText } from "./where.js";

const WHOLE = 0.99;
// An instant is played with what leads to it and what follows.
const AROUND_S = 1;
const SNIPPETS = { curl: curlSnippet, python: pythonSnippet };

export class ResultView {
  /** `problem(error)` is called for what goes wrong while a file is fetched. */
  constructor(problem) {
    this.exports = new ExportMenu($("exports"), problem);
    this.player = new Player($("video"));
    this.player.addEventListener("move", () => this.#move());
    this.player.addEventListener("unplayable", () => this.#unplayable());
    this.reader = null;
    this.language = "curl";
    this.looking = false;
    $("ask-where").addEventListener("click", () => {
      this.looking = !this.looking;
      this.#look();
    });
    $("earlier").addEventListener("click", () => this.#step(-1));
    $("later").addEventListener("click", () => this.#step(1));
    const tabs = Object.keys(SNIPPETS).map((language) => $(`tab-${language}`));
    for (const tab of tabs) {
      tab.addEventListener("click", () => this.#speak(tab.id.replace("tab-", "")));
      tab.addEventListener("keydown", ({ key }) => {
        if (key !== "ArrowLeft" && key !== "ArrowRight") return;
        const other = tabs[(tabs.indexOf(tab) + 1) % tabs.length];
        other.focus();
        other.click();
      });
    }
  }

  /** Show an entry `{name, file, answer, request}` at a window; `file` is null where the video is not at hand. */
  show(entry, index = 0) {
    const { answer, file } = entry;
    this.entry = entry;
    this.repeatable = Boolean(file || entry.url);
    this.#close();
    $("no-playback").hidden = true;
    $("video").hidden = false;
    $("title").textContent = entry.name;
    $("sentence").replaceChildren(...headlineNodes(answer));
    this.exports.show(entry);
    $("facts").textContent = facts(answer);
    $("warnings").replaceChildren(...warningList(answer.warnings));
    $("labels").replaceChildren(...labelList(answer));
    $("timings").replaceChildren(...timingList(answer.timings_ms));
    this.#raw(answer);
    this.#speak(this.language);
    this.highest = Math.max(...answer.windows.flatMap(({ attention }) => (attention ?? []).map(({ score }) => score)), 1e-9);
    $("coverage").textContent =
      `${answer.windows.length} ${answer.windows.length === 1 ? "window covers" : "windows cover"} ${percent(answer.coverage)} ` +
      `of ${seconds(answer.video.duration_s)}. The colour is the window's best label` +
      (answer.windows.some(({ attention }) => attention) ? ", the curve its attention." : ".");
    this.timeline = new Timeline($("timeline"), $("legend"), answer, {
      choose: (index) => this.#choose(index),
      seek: (time) => this.player.seek(time),
      play: (start, end) => this.#play(start, end),
    });
    // One window over everything: its strip says it all, unless something happens within.
    const eventful = answer.events?.length > 0 || answer.shots?.length > 1;
    $("timeline-card").hidden = answer.windows.length === 1 && answer.coverage > WHOLE && !eventful;
    $("window-steps").hidden = answer.windows.length < 2;
    $("result").hidden = false;
    if (file) this.reader = new FrameReader(file);
    this.#open(index);
    this.player.load(file).then(() => {
      // A video begins at its start, whose window is another one.
      if (index && this.entry === entry) this.#choose(index);
    });
  }

  hide() {
    this.#close();
    $("video").pause();
    $("result").hidden = true;
  }

  /** A small picture of the frame with the most attention, or null where the browser cannot draw it. */
  async picture() {
    const frames = this.entry.answer.windows.flatMap(({ attention }) => attention ?? []);
    if (!this.reader || frames.length === 0) return null;
    const most = frames.reduce((best, frame) => (frame.score > best.score ? frame : best));
    return this.reader.picture(most.time_s).catch(() => null);
  }

  #play(start, end) {
    const around = end - start < AROUND_S / 2 ? AROUND_S : 0;
    this.player.play(Math.max(0, start - around), Math.min(end + around, this.timeline.duration));
  }

  #close() {
    this.timeline?.close();
    this.timeline = null;
    this.reader?.close();
    this.reader = null;
  }

  #open(index) {
    const { answer } = this.entry;
    const evidence = evidenceOf(this.entry)[index];
    const window = { ...answer.windows[index], evidence };
    this.index = index;
    $("window-title").textContent =
      answer.windows.length > 1
        ? `Window ${index + 1} of ${answer.windows.length}: ${seconds(window.start_s)} to ${seconds(window.end_s)}`
        : window.attention ? "When the model looked" : "What the model saw";
    $("earlier").disabled = index === 0;
    $("later").disabled = index === answer.windows.length - 1;
    $("window-labels").replaceChildren(...(answer.windows.length > 1 ? windowLabels(window) : []));
    $("looked").textContent = looked(window);
    const faithful = window.attention && faithfulnessOf(answer.model);
    $("faithful").textContent = faithful ? faithfulnessText(faithful) : "";
    $("faithful").hidden = !faithful;
    $("needed").textContent = evidence ? evidenceText(evidence) : "";
    $("needed").hidden = !evidence;
    $("ask-evidence").hidden = $("evidence-note").hidden = Boolean(evidence) || !this.repeatable;
    $("strip-note").hidden = !window.attention;
    this.strip = new Strip($("strip"), $("layers"), window, {
      highest: this.highest,
      aspect: answer.video.width / answer.video.height,
      seek: (time) => this.player.seek(time),
    });
    this.#look();
    // What scrolls sideways must be in reach of the keyboard.
    const box = $("strip-scroll");
    box.tabIndex = box.scrollWidth > box.clientWidth ? 0 : -1;
    this.timeline.select(index);
    this.strip.at(this.player.time);
    const { reader } = this;
    if (reader) this.strip.fill((time, canvas) => reader.draw(time, canvas)).catch(() => {});
  }

  #look() {
    const window = this.entry.answer.windows[this.index];
    const view = viewOf(window);
    const shown = Boolean(view) && this.looking;
    $("ask-where").hidden = !view;
    $("ask-where").setAttribute("aria-pressed", String(shown));
    $("where").hidden = !shown;
    $("where").textContent = shown ? whereText(window) : "";
    this.strip.look(shown ? view : null);
  }

  #choose(index) {
    this.#open(index);
    this.player.seek(this.entry.answer.windows[index].start_s);
  }

  #step(by) {
    this.#choose(this.index + by);
  }

  #move() {
    if (!this.strip || !this.timeline) return;
    const { time } = this.player;
    this.timeline.at(time);
    if (this.strip.at(time)) return;
    // Playing on, or a click on the curve, leads into another window.
    const index = this.entry.answer.windows.findIndex(({ start_s: start, end_s: end }) => time >= start && time <= end);
    if (index >= 0 && index !== this.index) this.#open(index);
  }

  #unplayable() {
    $("video").hidden = true;
    $("no-playback").hidden = false;
    $("no-playback").firstElementChild.textContent = this.entry?.file
      ? "This browser cannot play the file."
      : "The video was too large to keep.";
  }

  #raw(answer) {
    const text = JSON.stringify(answer, null, 2);
    $("raw").textContent = text;
    URL.revokeObjectURL($("save-raw").href);
    $("save-raw").href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  }

  #speak(language) {
    this.language = language;
    for (const name of Object.keys(SNIPPETS)) {
      const tab = $(`tab-${name}`);
      tab.setAttribute("aria-selected", String(name === language));
      tab.tabIndex = name === language ? 0 : -1;
    }
    $("snippet").setAttribute("aria-labelledby", `tab-${language}`);
    const { name, url, request } = this.entry;
    $("snippet").textContent = SNIPPETS[language]({ base: new URL(".", location.href).href, name, url, ...request });
  }
}

function windowLabels({ abstained, predictions }) {
  const chips = predictions
    .filter(({ passes }) => passes !== false)
    .slice(0, 3)
    .map(({ label, score }) => element("span", {}, `${spaced(label)} ${percent(score)}`));
  return abstained ? [element("span", {}, NOTHING_CLEAR), ...chips] : chips;
}

function looked({ attention }) {
  if (!attention) return "This model gives no attention. vidtr explain --causal measures what each frame contributes.";
  const most = mostAttended(attention);
  const even = percent(1 / attention.length);
  if (!most) return `The model looked at all frames about alike: none has ${STANDS_OUT} times the even share of ${even}.`;
  return (
    `The model looked most at ${seconds(most.time_s)}: ${percent(most.score)} of its attention, where an even share is ` +
    `${even}.`
  );
}
