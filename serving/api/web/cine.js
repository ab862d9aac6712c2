// A cine MR: all slices with their contours, the volumes over the beat, and the measures.

import { bullseyes } from "./bullseye.js";
import { plot } from "./charts.js";
import { capital, element } from "./dom.js";
import { contour, heartBox, masksOf } from "./masks.js";

const TILE = 200;
const COLOURS = ["", "#ff5050", "#5adc5a", "#50a0ff", "#ffbe3c", "#c86eff"];
const UNITS = [["_l_min_m2", "L/min/m2"], ["_ml_m2", "mL/m2"], ["_g_m2", "g/m2"], ["_ml_s", "mL/s"], ["_l_min", "L/min"], ["_percent", "%"], ["_ml", "mL"], ["_g", "g"]];

/** Prepares the pack of `item` to be drawn with the contours of its answer; true if there are any. */
export async function addContours(item) {
  const answer = item.answers.find((each) => Object.keys(each.files).length);
  if (!item.pack?.header.tiles || !answer || item.pack.paint) return false;
  const masks = await masksOf(answer, item.pack.header).catch(() => null);
  const box = masks && heartBox(masks);
  if (!box) return false;
  const across = Math.ceil(Math.sqrt((masks.slices * 4) / 3));
  item.pack.canvas = { columns: across * TILE, rows: Math.ceil(masks.slices / across) * TILE };
  item.pack.paint = (context, bitmap, frame) => paint(context, bitmap, frame * item.pack.header.step, item.pack.header.tiles, masks, box, across);
  return true;
}

function paint(context, bitmap, phase, tiles, masks, box, across) {
  const [shrunk, zoom] = [tiles.columns / masks.columns, TILE / box.side];
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
  for (let slice = 0; slice < tiles.slices; slice += 1) {
    const [x, y] = [(slice % across) * TILE, Math.floor(slice / across) * TILE];
    const [left, top] = [(slice % tiles.across) * tiles.columns, Math.floor(slice / tiles.across) * tiles.rows];
    context.drawImage(bitmap, left + box.left * shrunk, top + box.top * shrunk, box.side * shrunk, box.side * shrunk, x, y, TILE, TILE);
    context.save();
    context.beginPath();
    context.rect(x, y, TILE, TILE);
    context.clip();
    for (let value = COLOURS.length - 1; value > 0; value -= 1) {
      context.beginPath();
      const place = (step) => (column, row) => context[step](x + (column - box.left) * zoom, y + (row - box.top) * zoom);
      contour(masks, phase, slice, value, place("moveTo"), place("lineTo"));
      context.strokeStyle = COLOURS[value];
      context.lineWidth = 1.75;
      context.stroke();
    }
    context.restore();
    context.fillStyle = "#cdd8de";
    context.font = "13px system-ui, sans-serif";
    context.fillText(String(slice + 1), x + 7, y + 17);
    context.fillStyle = "#000";
  }
}

/** Returns what an answer says beyond a label: measures, curves over the beat, and reasons to doubt them. */
export function details(answer) {
  const { measures, curves, wall, flags = [], doubtful = [] } = answer.details;
  return [
    ...flags.map((flag) => element("p", { className: "warning" }, capital(flag.sentence))),
    measures ? measured(measures, doubtful, answer.details.unit) : null,
    curves ? volumes(answer.details) : null,
    ...(wall ? bullseyes(wall) : []),
  ].filter(Boolean);
}

function measured(measures, doubtful, unit) {
  const rows = Object.entries(measures)
    .filter(([, value]) => value !== null)
    .flatMap(([name, value]) => {
      const [title, its] = named(name, unit);
      const doubt = doubtful.includes(name) ? " (in doubt)" : "";
      return [element("dt", {}, title), element("dd", {}, `${value.toFixed(value < 10 ? 1 : 0)} ${its}${doubt}`)];
    });
  return element("dl", { className: "facts measures" }, rows);
}

/** Returns the title and the unit of a measure: "lav_max_ml" is LAV max, in mL. */
function named(name, unit = "") {
  const [suffix, its] = UNITS.find(([ending]) => name.endsWith(ending)) ?? ["", unit];
  const [first, ...rest] = name.slice(0, name.length - suffix.length).split("_");
  return [[first.toUpperCase(), ...rest].join(" "), its];
}

function volumes({ curves, ed_phase: ed, es_phase: es }) {
  const lines = new Map(Object.entries(curves).map(([name, curve]) => [name.replaceAll("-", " ").replace(/^[lr]v\b/, (side) => side.toUpperCase()), curve.values.flatMap((value, phase) => (value === null ? [] : [[phase, value]]))]));
  const phases = Math.max(...Object.values(curves).map((curve) => curve.values.length));
  const [{ unit }] = Object.values(curves);
  const marks = [[ed, "ED"], [es, "ES"]];
  return plot(`Size over the beat (${unit})`, lines, { from: 0, to: Math.max(1, phases - 1), left: "phase 1", right: `phase ${phases}`, marks, colours: "mask", latest: false });
}
