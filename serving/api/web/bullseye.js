// The bull's-eye of the 17 segments of the left ventricle: base outside, apex in the middle, anterior up, septum left.

import { svg, text } from "./charts.js";
import { element } from "./dom.js";

const [MIDDLE, MARGIN] = [150, 44];
const RINGS = [
  [146, 110, [1, 6, 5, 4, 3, 2]],
  [110, 74, [7, 12, 11, 10, 9, 8]],
  [74, 34, [13, 16, 15, 14]],
];
const FIGURES = [
  ["ed_mm", "Wall at end diastole, mm", 4, 16, 1],
  ["thickening_percent", "Thickening in systole, %", 0, 100, 0],
];

/** Returns wall thickness and thickening of `wall`, the segments of an answer, or why there are none. */
export function bullseyes(wall) {
  if (!wall.segments.length) return [element("p", { className: "hint" }, `Wall thickness is not measured: ${wall.missing}.`)];
  return FIGURES.map((figure) => bullseye(wall.segments, ...figure));
}

function bullseye(segments, name, title, low, high, digits) {
  const known = segments.filter((segment) => segment[name] !== null);
  const said = known.map((segment) => `${segment.name} ${segment[name].toFixed(digits)}`).join(", ");
  const size = 2 * (MIDDLE + MARGIN);
  const picture = svg("svg", { class: "bullseye", viewBox: `${-MARGIN} ${-MARGIN / 2} ${size} ${size - MARGIN}`, role: "img", "aria-label": `${title}. ${said}.` });
  for (const [outer, inner, ring] of RINGS) {
    ring.forEach((number, k) => {
      const segment = segments[number - 1];
      const wide = (2 * Math.PI) / ring.length;
      const start = -Math.PI / 2 + (k - 0.5) * wide;
      picture.append(sector(outer, inner, start, wide, segment, (segment[name] - low) / (high - low), segment[name] === null));
      const [x, y] = at((outer + inner) / 2, start + wide / 2);
      picture.append(text(x, Number(y) + 4, segment[name]?.toFixed(digits) ?? "", "middle"));
    });
  }
  for (const [x, y, wall, anchor] of [[MIDDLE, -6, "anterior", "middle"], [MIDDLE, 312, "inferior", "middle"], [0, MIDDLE, "septal", "end"], [300, MIDDLE, "lateral", "start"]]) picture.append(text(x, y, wall, anchor));
  return element("figure", { className: "card panel" }, element("h2", {}, title), picture);
}

function sector(outer, inner, start, wide, segment, share, unknown) {
  const [a, b, c, d] = [at(outer, start), at(outer, start + wide), at(inner, start + wide), at(inner, start)];
  const path = `M${a}A${outer} ${outer} 0 0 1 ${b}L${c}A${inner} ${inner} 0 0 0 ${d}z`;
  const opacity = unknown ? 0 : 0.1 + 0.55 * Math.min(1, Math.max(0, share));
  return svg("path", { class: "segment", d: path, "fill-opacity": opacity.toFixed(2) }, svg("title", {}, `${segment.number} ${segment.name}`));
}

const at = (radius, angle) => [MIDDLE + radius * Math.cos(angle), MIDDLE + radius * Math.sin(angle)].map((value) => value.toFixed(1));
