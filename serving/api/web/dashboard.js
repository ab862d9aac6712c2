// The live dashboard: the service's own metrics, read every few seconds; the history lives in this tab.

import { send } from "./api.js";
import { chart, table } from "./charts.js";
import { byId } from "./dom.js";
import { parsed, rows, values } from "./metrics.js";
import { say, signIn } from "./signin.js";
import { setUpTheme } from "./theme.js";

const EVERY_S = 5;
const WINDOW_S = 30;
const [MIN_SPAN_S, SPAN_S] = [120, 900];

const state = { panels: [], scrapes: [], lines: [], start_s: 0 };

async function scrape() {
  return { time_s: Date.now() / 1000, samples: parsed(await (await send("/metrics")).text()) };
}

async function welcome(first) {
  state.panels = await (await send("/web/panels.json")).json();
  state.lines = state.panels.map(() => new Map());
  state.start_s = first.time_s;
  byId("panels").hidden = false;
  take(first);
  setInterval(refresh, 1000 * EVERY_S);
}

async function refresh() {
  try {
    take(await scrape());
    say("");
  } catch (refused) {
    say(refused.message);
  }
}

function take(latest) {
  state.scrapes = [...state.scrapes.filter((old) => old.time_s > latest.time_s - WINDOW_S - EVERY_S), latest];
  const before = state.scrapes[0];
  if (before !== latest)
    state.panels.forEach((panel, k) => {
      if (panel.kind !== "table") add(state.lines[k], values(panel, latest, before), latest.time_s);
    });
  draw(latest);
}

function add(lines, found, time_s) {
  for (const [name, value] of found) lines.set(name, [...(lines.get(name) ?? []), [time_s, value]]);
  for (const [name, points] of lines) lines.set(name, points.filter(([taken_s]) => taken_s > time_s - SPAN_S));
}

function draw(latest) {
  const span_s = Math.min(SPAN_S, Math.max(MIN_SPAN_S, latest.time_s - state.start_s));
  const shown = state.panels.map((panel, k) =>
    panel.kind === "table" ? table(panel.title, panel.columns, rows(panel, latest.samples)) : chart(panel.title, state.lines[k], latest.time_s, span_s),
  );
  byId("panels").replaceChildren(...shown);
  byId("updated").textContent = `Updated ${new Date(1000 * latest.time_s).toLocaleTimeString()}; every ${EVERY_S} s, means over ${WINDOW_S} s. The history is kept in this tab for ${SPAN_S / 60} minutes.`;
}

setUpTheme();
signIn(scrape, welcome);
