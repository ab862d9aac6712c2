// The answer to one file, as a cardiologist reads it: the view, how sure, and what else it could be.

import { details } from "./cine.js";
import { downloads, fileButtons } from "./download.js";
import { capital, element, percent } from "./dom.js";

const FIRST_SHOWN = 5;

/** Shows what is known of `item` in `panel`; `tools(answer)` gives the controls below an answer. */
export function showAnswer(panel, item, labels, tools) {
  panel.replaceChildren(...contents(item, labels, tools));
}

function contents(item, labels, tools) {
  if (item.state === "waiting") return [element("p", { className: "hint" }, "Waiting for its turn.")];
  if (item.state === "asking") return [element("p", { className: "hint" }, "The model is looking at the clip.")];
  const alone = item.answers.length + item.problems.length === 1;
  return [
    ...item.answers.map((answer) => result(answer, labels, tools, alone)),
    ...item.problems.map(problem),
    ...(item.answers.length ? [downloads([item], "answer")] : []),
  ];
}

export const titleOf = (task, name, labels) => labels.get(task)?.get(name) ?? name;

function result(answer, labels, tools, alone) {
  const ranked = Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1]);
  return element(
    "article",
    { className: "result" },
    alone ? null : element("p", { className: "kind" }, answer.task),
    headline(answer, ranked, labels),
    ranked.length ? bars(answer.task, ranked.slice(0, FIRST_SHOWN), labels) : null,
    ranked.length > FIRST_SHOWN
      ? element("details", {}, element("summary", {}, `All ${ranked.length} views`), bars(answer.task, ranked.slice(FIRST_SHOWN), labels))
      : null,
    ...answer.warnings.map((warning) => element("p", { className: "warning" }, sentence(warning))),
    ...details(answer),
    fileButtons(answer),
    ...tools(answer),
    facts(answer),
  );
}

function headline(answer, ranked, labels) {
  const level = ranked.length ? percent(ranked[0][1]) : null;
  if (answer.label !== null || !ranked.length)
    return element(
      "div",
      {},
      element("h2", { className: "view" }, capital(answer.title)),
      level ? element("p", { className: "sure" }, `${level} sure`) : null,
    );
  const nearest = ranked.slice(0, 2).map(([name, share]) => `${titleOf(answer.task, name, labels)} (${percent(share)})`);
  return element(
    "div",
    {},
    element("h2", { className: "view unsure" }, "Cannot tell"),
    element("p", { className: "sure" }, `Nearest: ${nearest.join(", then ")}. ${percent(answer.threshold ?? 0)} is needed for an answer.`),
  );
}

function bars(task, ranked, labels) {
  const rows = ranked.map(([name, share], place) =>
    element(
      "li",
      place === 0 ? { className: "first" } : {},
      element("span", {}, capital(titleOf(task, name, labels))),
      element("span", { className: "share" }, percent(share)),
      element("progress", { max: 1, value: share, "aria-hidden": "true" }),
    ),
  );
  return element("ul", { className: "bars" }, rows);
}

function facts(answer) {
  const ms = answer.timings_ms;
  const rows = [
    ["Model", `${answer.model.name}, version ${answer.model.version}`],
    ["Bundle", answer.model.bundle.slice(0, 12)],
    ["Computed by", `${answer.model.runtime} at ${answer.model.precision}`],
    ["Time", `${Math.round(ms.total)} ms, of which the model ${Math.round(ms.inference)} ms`],
    answer.code ? ["DICOM code", `${answer.code.value} (${answer.code.scheme}), ${answer.code.meaning}`] : null,
    ["Request", answer.request_id],
  ];
  const list = rows.filter(Boolean).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
  return element("details", {}, element("summary", {}, "About this answer"), element("dl", { className: "facts" }, list));
}

function problem(found) {
  return element(
    "article",
    { className: "result" },
    element("h2", { className: "view" }, "No answer"),
    element("p", { className: "problem" }, sentence(found.detail)),
    found.request_id ? element("p", { className: "hint" }, `Request ${found.request_id}`) : null,
  );
}

const sentence = (text) => capital(text) + (/[.!?]$/.test(text) ? "" : ".");
