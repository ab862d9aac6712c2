// Line charts as SVG. Colours are classes of the style sheet, so that they follow the theme.

import { element } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [520, 190, 46, 8, 10, 22];
const COLOURS = 8;

/** Returns an SVG element. */
export function svg(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Returns a chart of `lines`, a Map of name to [[time_s, value]], over the last `span_s` until `now_s`. */
export function chart(title, lines, now_s, span_s) {
  const sorted = new Map([...lines].sort(([a], [b]) => a.localeCompare(b)));
  const ends = { from: now_s - span_s, to: now_s, left: `${duration(span_s)} ago`, right: "now" };
  return plot(title, sorted, { ...ends, marks: [], colours: "c", latest: true });
}

function duration(span_s) {
  if (span_s < 3600) return `${Math.round(span_s / 60)} min`;
  return span_s < 172_800 ? `${Math.round(span_s / 3600)} h` : `${Math.round(span_s / 86_400)} days`;
}

/** Returns a chart of `lines`, a Map of name to [[x, value]], from x `from` (labelled `left`) to `to` (`right`).
 * `marks` are [x, name] of vertical lines; `latest` shows the last values. */
export function plot(title, lines, { from, to, left, right, marks, colours, latest }) {
  const named = [...lines].filter(([, points]) => points.length);
  const top = ceiling(Math.max(0, ...named.flatMap(([, points]) => points.map(([, value]) => value))));
  const x = (at) => LEFT + ((WIDTH - LEFT - RIGHT) * (at - from)) / (to - from);
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top);
  const said = named.map(([name, points]) => `${name} ${short(latest ? points.at(-1)[1] : Math.max(...points.map(([, value]) => value)))}`).join(", ");
  const label = `${title}. ${latest ? "Latest" : "Largest"}: ${said || "nothing yet"}.`;
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label });
  for (const share of [0, 0.5, 1]) {
    picture.append(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(share * top), y2: y(share * top) }));
    picture.append(text(LEFT - 6, y(share * top) + 4, short(share * top), "end"));
  }
  for (const [at, name] of marks) picture.append(svg("line", { class: "mark", x1: x(at), x2: x(at), y1: TOP, y2: HEIGHT - BOTTOM }), text(x(at) + 4, TOP + 8, name, "start"));
  picture.append(text(LEFT, HEIGHT - 4, left, "start"), text(WIDTH - RIGHT, HEIGHT - 4, right, "end"));
  named.forEach(([, points], k) => {
    const path = points.map(([at, value], first) => `${first ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    picture.append(svg("path", { class: `line ${colours}${k % COLOURS}`, d: path }));
    if (latest) picture.append(svg("circle", { class: `dot ${colours}${k % COLOURS}`, cx: x(points.at(-1)[0]), cy: y(points.at(-1)[1]), r: 3 }));
  });
  return element("figure", { className: "card panel" }, element("h2", {}, title), picture, legend(named, colours, latest));
}

function legend(named, colours, latest) {
  if (!named.length) return element("p", { className: "hint" }, "Nothing yet.");
  const entries = named.map(([name, points], k) =>
    element("li", {}, element("span", { className: `key ${colours}${k % COLOURS}` }), `${plain(name)} `, latest ? element("b", {}, short(points.at(-1)[1])) : null),
  );
  return element("ul", { className: "legend" }, entries);
}

const plain = (name) => name.replace(/^echoplane_/, "").replaceAll("_", " ");

export const text = (x, y, content, anchor) => svg("text", { x, y, "text-anchor": anchor }, content);

/** The next of 1, 2, 5, 10, 20 ... that is not below `value`. */
export function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((step) => step * power >= value * 0.9999);
}

export function short(value) {
  if (value >= 10_000) return `${(value / 1000).toFixed(0)}k`;
  if (value >= 100 || Number.isInteger(value)) return value.toFixed(0);
  return value.toFixed(value >= 10 ? 1 : 2);
}

/** Returns a table of `rows` below the names of `columns`. */
export function table(title, columns, rows) {
  const body = rows.map((cells) => element("tr", {}, cells.map((cell) => element("td", {}, cell))));
  return element(
    "section",
    { className: "card panel wide", tabIndex: 0, "aria-label": title }, // a narrow screen scrolls it, by keys too
    element("h2", {}, title),
    rows.length
      ? element("table", {}, element("thead", {}, element("tr", {}, columns.map((column) => element("th", { scope: "col" }, column)))), element("tbody", {}, body))
      : element("p", { className: "hint" }, "None."),
  );
}
