// Where in its frames the class token looked, where the answer has it: a map over each picture, and a sentence.

import { percent, seconds } from "./dom.js";

const WIDTH = 240;
const STRONGEST = 0.8;
const OUTSIDE = "rgb(0 0 0 / 0.5)";
const heat = (share) => `rgb(255 105 0 / ${(STRONGEST * share).toFixed(3)})`;

/** The view of a window that is shown: of three crops the one in the middle, which comes last. */
export const viewOf = ({ spatial_attention: views }) => views?.at(-1) ?? null;

/** The highest number of a view, beside which all others are drawn. */
export const highestOf = ({ frames }) => Math.max(...frames.flat(2).filter((value) => value !== null), 1e-9);

/** Draw the map of one frame, `grid`, over a picture of this aspect; what the network was not shown is dark. */
export function drawMap(canvas, grid, { left, top, width, height }, highest, aspect) {
  canvas.width = WIDTH;
  canvas.height = Math.max(1, Math.round(WIDTH / aspect));
  const [x, y] = [(share) => Math.round(share * canvas.width), (share) => Math.round(share * canvas.height)];
  const context = canvas.getContext("2d");
  context.fillStyle = OUTSIDE;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.clearRect(x(left), y(top), x(left + width) - x(left), y(top + height) - y(top));
  for (const [row, cells] of grid.entries()) {
    for (const [column, value] of cells.entries()) {
      const [from, to] = [column, column + 1].map((edge) => x(left + (edge / cells.length) * width));
      const [above, below] = [row, row + 1].map((edge) => y(top + (edge / grid.length) * height));
      context.fillStyle = heat(value / highest);
      context.fillRect(from, above, to - from, below - above);
    }
  }
}

/** What the maps of a window come to, and what they do not say. */
export function whereText(window) {
  const view = viewOf(window);
  const cells = view.frames.flatMap((grid, frame) =>
    (grid ?? []).flatMap((row, r) => row.map((value, c) => ({ value, frame, down: (r + 0.5) / grid.length, across: (c + 0.5) / row.length }))),
  );
  const total = cells.reduce((sum, { value }) => sum + value, 0);
  const most = cells.reduce((high, cell) => (cell.value > high.value ? cell : high));
  const { left, top, width, height } = view.region;
  const place = placeOf(left + most.across * width, top + most.down * height);
  const crop = window.spatial_attention.length > 1 ? " of the crop in the middle" : "";
  return (
    `Orange is where the class token looked in the last layer, stronger where it read more: ${percent(total)} of what it read lies in ` +
    `the pictures${crop}, most at ${seconds(window.attention[most.frame].time_s)}, ${place}. The rest went to class tokens, which have no place; ` +
    "frames without a map were dropped before. It says where the model looked, and is no evidence of what made the label."
  );
}

function placeOf(across, down) {
  const third = (share, names) => names[Math.min(2, Math.floor(3 * share))];
  const [vertical, horizontal] = [third(down, ["at the top", "", "at the bottom"]), third(across, ["on the left", "", "on the right"])];
  return [vertical, horizontal].filter(Boolean).join(" ") || "in the middle";
}
