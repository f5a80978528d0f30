// Making elements. Text enters the page as text nodes only: labels and file names are not trusted to be harmless.

export const $ = (id) => document.getElementById(id);

const SVG = document.querySelector("svg").namespaceURI;

/** An element; attributes that are null or false are left out, those named `--…` become custom properties. */
export const element = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);

export const drawing = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    // The page's policy forbids style attributes; setting properties from a script is allowed.
    if (name.startsWith("--")) node.style.setProperty(name, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

/** Arrow keys, Home and End move among `items`, of which one is in the tab order. */
export function roving(container, items) {
  items.forEach((item, index) => (item.tabIndex = index === 0 ? 0 : -1));
  container.addEventListener("keydown", (event) => {
    const from = items.indexOf(event.target);
    const last = items.length - 1;
    const to = { ArrowLeft: Math.max(0, from - 1), ArrowRight: Math.min(last, from + 1), Home: 0, End: last }[event.key];
    if (from < 0 || to === undefined) return;
    event.preventDefault();
    reach(items, to);
    items[to].focus();
  });
}

/** Make one of `items` the one that the Tab key reaches. */
export function reach(items, index) {
  items.forEach((item, other) => (item.tabIndex = other === index ? 0 : -1));
}

/** `4.20 s`, and from a minute on `3:00`, `3:00.50` or `1:02:03`. */
export function seconds(value) {
  if (value < 60) return `${value.toFixed(2)} s`;
  const hundredths = Math.round(100 * value);
  const [whole, rest] = [Math.floor(hundredths / 100), hundredths % 100];
  const [hours, minutes, left] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60].map(String);
  const parts = hours === "0" ? [minutes] : [hours, minutes.padStart(2, "0")];
  return `${[...parts, left.padStart(2, "0")].join(":")}${rest ? `.${String(rest).padStart(2, "0")}` : ""}`;
}
export const percent = (value) => `${(100 * value).toFixed(1)} %`;
export const size = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`);
/** Labels and codes are names of programs; people read them with spaces. */
export const spaced = (name) => name.replaceAll("_", " ");
