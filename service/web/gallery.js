// The last results, kept in this browser with their videos so that they can be looked at again. Newest first.

import { element } from "./dom.js";
import { said } from "./verdict.js";

const KEEP = 12;
const LARGEST_VIDEO_BYTES = 64e6;

export class Gallery {
  /** `open(entry)` is called for a card that is chosen, `changed()` after the list has changed. */
  constructor(list, { open, changed }) {
    this.list = list;
    this.open = open;
    this.changed = changed;
    this.entries = [];
    this.urls = [];
    this.database = null;
  }

  async load() {
    // Without storage, as in some private windows, the gallery lasts as long as the page.
    this.database = await database().catch(() => null);
    if (this.database) this.entries = await this.#stored();
    this.#show();
  }

  async add(entry) {
    const small = entry.file && entry.file.size <= LARGEST_VIDEO_BYTES;
    const kept = { ...entry, file: small ? entry.file : null };
    this.entries = [kept, ...this.entries.filter(({ id }) => id !== entry.id)];
    const dropped = this.entries.splice(KEEP);
    // A card that is shown is one that outlives the page. A full disk costs the card's next life, not this one.
    await this.#write((store) => {
      store.put(kept);
      for (const { id } of dropped) store.delete(id);
    }).catch(() => {});
    this.#show();
  }

  async clear() {
    this.entries = [];
    await this.#write((store) => store.clear()).catch(() => {});
    this.#show();
  }

  #show() {
    for (const url of this.urls.splice(0)) URL.revokeObjectURL(url);
    this.list.replaceChildren(...this.entries.map((entry) => this.#card(entry)));
    this.changed();
  }

  #card(entry) {
    let picture = element("span", { class: "picture", "aria-hidden": "true" });
    if (entry.picture) {
      const url = URL.createObjectURL(entry.picture);
      this.urls.push(url);
      picture = element("img", { class: "picture", src: url, alt: "" });
    }
    const button = element(
      "button",
      { type: "button" },
      picture,
      element("span", { class: "said" }, said(entry.answer)),
      element("span", { class: "name" }, entry.name),
      element("time", { datetime: entry.when }, new Date(entry.when).toLocaleString()),
    );
    button.addEventListener("click", () => this.open(entry));
    return element("li", {}, button);
  }

  #stored() {
    return new Promise((resolve, reject) => {
      const request = this.database.transaction("results").objectStore("results").getAll();
      request.onsuccess = () => resolve(request.result.sort((a, b) => b.when.localeCompare(a.when)));
      request.onerror = () => reject(request.error);
    });
  }

  #write(change) {
    return new Promise((resolve, reject) => {
      if (!this.database) return resolve();
      const transaction = this.database.transaction("results", "readwrite");
      transaction.oncomplete = resolve;
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
      change(transaction.objectStore("results"));
    });
  }
}

function database() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open("vidtr", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("results", { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = request.onblocked = () => reject(request.error);
  });
}
