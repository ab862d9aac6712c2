// Line charts as SVG. Colours are classes of the style sheet, so that they follow the theme.

import { element } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [520, 190, 46, 8, 10, 22];
const COLOURS = 8;

function svg(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Returns a chart of `lines`, a Map of name to [[time_s, value]], over the last `span_s` until `now_s`. */
export function chart(title, lines, now_s, span_s) {
  const named = [...lines].filter(([, points]) => points.length).sort(([a], [b]) => a.localeCompare(b));
  const most = Math.max(0, ...named.flatMap(([, points]) => points.map(([, value]) => value)));
  const top = ceiling(most);
  const x = (time_s) => LEFT + ((WIDTH - LEFT - RIGHT) * (time_s - now_s + span_s)) / span_s;
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top);
  const latest = named.map(([name, points]) => `${name} ${short(points.at(-1)[1])}`).join(", ");
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}. Latest: ${latest || "nothing yet"}.` });
  for (const share of [0, 0.5, 1]) {
    picture.append(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(share * top), y2: y(share * top) }));
    picture.append(text(LEFT - 6, y(share * top) + 4, short(share * top), "end"));
  }
  picture.append(text(LEFT, HEIGHT - 4, `${Math.round(span_s / 60)} min ago`, "start"), text(WIDTH - RIGHT, HEIGHT - 4, "now", "end"));
  named.forEach(([, points], k) => {
    const path = points.map(([time_s, value], at) => `${at ? "L" : "M"}${x(time_s).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    picture.append(svg("path", { class: `line c${k % COLOURS}`, d: path }));
    const [time_s, value] = points.at(-1);
    picture.append(svg("circle", { class: `dot c${k % COLOURS}`, cx: x(time_s), cy: y(value), r: 3 }));
  });
  return element("figure", { className: "card panel" }, element("h2", {}, title), picture, legend(named));
}

function legend(named) {
  if (!named.length) return element("p", { className: "hint" }, "Nothing yet.");
  const entries = named.map(([name, points], k) =>
    element("li", {}, element("span", { className: `key c${k % COLOURS}` }), `${plain(name)} `, element("b", {}, short(points.at(-1)[1]))),
  );
  return element("ul", { className: "legend" }, entries);
}

const plain = (name) => name.replace(/^echoplane_/, "").replaceAll("_", " ");

const text = (x, y, content, anchor) => svg("text", { x, y, "text-anchor": anchor }, content);

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
    { className: "card panel wide" },
    element("h2", {}, title),
    rows.length
      ? element("table", {}, element("thead", {}, element("tr", {}, columns.map((column) => element("th", { scope: "col" }, column)))), element("tbody", {}, body))
      : element("p", { className: "hint" }, "None."),
  );
}
