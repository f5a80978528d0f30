// The menu that saves an answer for other programs.

import { exported } from "./api.js";
import { element } from "./dom.js";

const FORMATS = [
  ["csv", "Spreadsheet (CSV)"],
  ["vtt", "Captions (WebVTT)"],
  ["srt", "Subtitles (SRT)"],
  ["edl", "Edit list (EDL, CMX 3600)"],
  ["otio", "OpenTimelineIO"],
  ["label-studio", "Label Studio"],
  ["fiftyone", "FiftyOne"],
  ["activitynet", "ActivityNet"],
];

export class ExportMenu {
  /** Fills the `details` element `root`; `problem(error)` is called where the service gives no file. */
  constructor(root, problem) {
    this.root = root;
    this.problem = problem;
    this.list = root.querySelector("ul");
    root.addEventListener("keydown", ({ key }) => {
      if (key !== "Escape" || !root.open) return;
      this.#close();
      root.querySelector("summary").focus();
    });
    document.addEventListener("click", ({ target }) => !root.contains(target) && this.#close());
  }

  /** Offer the files of an answer. One without events has none: it is saved as JSON, at the end of the page. */
  show({ answer, name }) {
    this.#close();
    this.root.hidden = !answer.events;
    this.list.replaceChildren(...FORMATS.map(([format, text]) => this.#item(answer.id, format, text, name)));
  }

  #item(id, format, text, name) {
    const button = element("button", { type: "button" }, text);
    button.addEventListener("click", async () => {
      this.#close();
      await exported(id, format, name).then(save, this.problem);
    });
    return element("li", {}, button);
  }

  #close() {
    this.root.open = false;
  }
}

function save(file) {
  const url = URL.createObjectURL(file);
  element("a", { href: url, download: file.name }).click();
  // The browser has taken the file by the next turn of the clock.
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
