// The dashboard: the service's own metrics, read every few seconds. The history is this tab's, or that of Prometheus if
// the service has one to ask.

import { send } from "./api.js";
import { chart, table } from "./charts.js";
import { byId } from "./dom.js";
import { parsed, rows, values } from "./metrics.js";
import { say, signIn } from "./signin.js";
import { setUpTheme } from "./theme.js";

const EVERY_S = 5;
const WINDOW_S = 30;
const [MIN_SPAN_S, SPAN_S] = [120, 900];

const HISTORY_EVERY_S = 30;

const state = { panels: [], scrapes: [], lines: [], start_s: 0, history: null, history_s: 0, problem: "" };

async function scrape() {
  return { time_s: Date.now() / 1000, samples: parsed(await (await send("/metrics")).text()) };
}

async function welcome(first) {
  state.panels = await (await send("/web/panels.json")).json();
  state.lines = state.panels.map(() => new Map());
  state.start_s = first.time_s;
  byId("panels").hidden = false;
  byId("range").addEventListener("change", () => readHistory().then(redraw));
  byId("range").value = "1h";
  await readHistory();
  byId("ranges").hidden = !byId("range").value;
  take(first);
  setInterval(refresh, 1000 * EVERY_S);
}

/** Reads the history of the range that is chosen; none for this tab's own, which is chosen if the service has no Prometheus. */
async function readHistory() {
  const range = byId("range").value;
  Object.assign(state, { history_s: Date.now() / 1000, problem: "" });
  try {
    const found = range ? await (await send(`/v1/history?range=${range}`)).json() : null;
    if (found && !found.configured) byId("range").value = "";
    state.history = found?.configured ? found : null;
  } catch (refused) {
    state.history = null;
    state.problem = `${refused.message} The charts show this tab's own history.`;
  }
  say(state.problem);
}

const redraw = () => draw(state.scrapes.at(-1));

async function refresh() {
  try {
    const latest = await scrape();
    if (byId("range").value && Date.now() / 1000 - state.history_s > HISTORY_EVERY_S) await readHistory();
    else say(state.problem);
    take(latest);
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
  const { history } = state;
  const span_s = history?.range_s ?? Math.min(SPAN_S, Math.max(MIN_SPAN_S, latest.time_s - state.start_s));
  const past = new Map(history?.panels.map((panel) => [panel.title, new Map(Object.entries(panel.lines))]));
  const shown = state.panels.map((panel, k) => {
    if (panel.kind === "table") return table(panel.title, panel.columns, rows(panel, latest.samples));
    return chart(panel.title, past.get(panel.title) ?? state.lines[k], history?.end_s ?? latest.time_s, span_s);
  });
  byId("panels").replaceChildren(...shown);
  const kept = history ? `The charts come from Prometheus, every ${HISTORY_EVERY_S} s.` : `Means over ${WINDOW_S} s. The history is kept in this tab for ${SPAN_S / 60} minutes.`;
  byId("updated").textContent = `Updated ${new Date(1000 * latest.time_s).toLocaleTimeString()}; every ${EVERY_S} s. ${kept}`;
}

setUpTheme();
signIn(scrape, welcome);
