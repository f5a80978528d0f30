// A smooth line through points that never goes above or below its neighbours: no peak is shown that was not measured.

/** SVG path data through `points`, [x, y] with rising x: monotone cubics (Fritsch and Carlson, 1980). */
export function curve(points) {
  if (points.length === 0) return "";
  const slopes = points.slice(1).map(([x, y], i) => (y - points[i][1]) / (x - points[i][0]));
  const tangents = points.map((_, i) => {
    const [before, after] = [slopes[i - 1] ?? slopes[i] ?? 0, slopes[i] ?? slopes[i - 1] ?? 0];
    return before * after <= 0 ? 0 : (2 * before * after) / (before + after);
  });
  const [first, ...rest] = points;
  let path = `M${first.join(" ")}`;
  rest.forEach(([x, y], i) => {
    const [x0, y0] = points[i];
    const third = (x - x0) / 3;
    path += `C${x0 + third} ${y0 + third * tangents[i]} ${x - third} ${y - third * tangents[i + 1]} ${x} ${y}`;
  });
  return path;
}
