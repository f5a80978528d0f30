// Rows of named bands over a timeline: the shots, and for each label its events.

import { element, percent, roving, spaced } from "./dom.js";
import { instant, when } from "./moments.js";

// What a name needs at least, and for each of its letters.
const ROOM_PX = 16;
const LETTER_PX = 7;
const ROWS = 12;

/**
 * The rows of an answer, from top to bottom. `play(start, end)` is called for what is clicked; `fine` says whether
 * tenths of a second are shown.
 */
export function bandRows({ events, shots }, duration, colours, fine, play) {
  const rows = [];
  if (shots?.length > 1) {
    const bands = shots.map((shot, index) => shotBand(shot, index, shots.length, fine));
    rows.push(new BandRow("Shots", bands, duration, play));
  }
  const labels = [...new Set((events ?? []).map(({ label }) => label))];
  const seconds = (label) => events.reduce((sum, event) => sum + (event.label === label ? event.end_s - event.start_s : 0), 0);
  const total = new Map(labels.map((label) => [label, seconds(label)]));
  labels.sort((a, b) => total.get(b) - total.get(a));
  for (const label of labels.slice(0, ROWS)) {
    const own = events.filter((event) => event.label === label);
    rows.push(new BandRow(spaced(label), own.map((event) => eventBand(event, colours, fine)), duration, play));
  }
  return rows;
}

function shotBand({ start_s: start, end_s: end, predictions, transition }, index, count, fine) {
  const first = predictions.find(({ passes }) => passes !== false);
  const { spoken } = when({ start_s: start, end_s: end }, fine);
  const begins = transition === "dissolve" ? ", begins with a dissolve" : "";
  return {
    start,
    end,
    name: first ? `${index + 1} ${spaced(first.label)}` : String(index + 1),
    text: `Shot ${index + 1} of ${count}, ${spoken}${first ? `: ${spaced(first.label)}` : ""}${begins}`,
    colour: index % 2 ? "shot odd" : "shot",
  };
}

function eventBand(event, colours, fine) {
  const { spoken } = when(event, fine);
  return {
    start: event.start_s,
    end: event.end_s,
    name: spaced(event.label),
    text: `${spaced(event.label)} ${spoken}, ${percent(event.score)}`,
    colour: `${colours.of(event.label)}${instant(event) ? " instant" : ""}`,
  };
}

class BandRow {
  constructor(name, bands, duration, play) {
    this.bands = bands;
    this.duration = duration;
    this.buttons = bands.map((band) => this.#button(band));
    const lane = element("div", { class: "lane bands", role: "toolbar", "aria-label": name }, ...this.buttons);
    // One listener for all: a film has thousands of shots and events.
    lane.addEventListener("click", ({ target }) => {
      const band = this.bands[this.buttons.indexOf(target)];
      if (band) play(band.start, band.end);
    });
    roving(lane, this.buttons);
    this.node = element("div", { class: "band-row" }, element("p", { class: "row-name", "aria-hidden": "true" }, name), lane);
  }

  /** Write names where a second, `perSecond` pixels wide, leaves room for them. */
  name(perSecond) {
    this.bands.forEach(({ start, end, name }, index) => {
      const fits = (end - start) * perSecond >= ROOM_PX + LETTER_PX * name.length;
      const button = this.buttons[index];
      if ((button.textContent !== "") !== fits) button.textContent = fits ? name : "";
    });
  }

  /** Mark what happens at `time`. */
  at(time) {
    this.bands.forEach(({ start, end }, index) => {
      this.buttons[index].classList.toggle("now", time >= start && time < Math.max(end, start + 0.2));
    });
  }

  #button({ start, end, text, colour }) {
    return element("button", {
      type: "button",
      class: `band ${colour}`,
      title: text,
      "aria-label": `${text}. Play`,
      "--from": start / this.duration,
      "--width": (end - start) / this.duration,
    });
  }
}
