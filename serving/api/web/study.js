// The table of all files of a study, with thumbnails.

import { titleOf } from "./answer.js";
import { downloads } from "./download.js";
import { capital, element, percent } from "./dom.js";

const THUMBNAIL = { columns: 160, rows: 120 };
const COLUMNS = [["Picture", ""], ["File", ""], ["View", ""], ["Sure", "number"], ["Nearest other", "optional"]];

/** Returns what the answer to `item` is, in a few words. */
export function summary(item) {
  if (item.state !== "answered") return item.state === "asking" ? "asking" : "waiting";
  const [answer] = item.answers;
  if (!answer) return "no answer";
  return answer.label === null ? "cannot tell" : answer.title;
}

/** Shows `items` as a table, if there is more than one; `choose(item)` is called for the one that is clicked. */
export function showStudy(section, state, choose) {
  section.hidden = state.items.length < 2;
  if (section.hidden) return;
  const head = COLUMNS.map(([title, className]) => element("th", { scope: "col", className }, title === "Picture" ? element("span", { className: "unseen" }, title) : title));
  const done = state.items.filter((item) => item.state === "answered").length;
  section.replaceChildren(
    element(
      "div",
      { className: "row heading" },
      element("h2", {}, `${done} of ${state.items.length} files answered`),
      downloads(state.items, "all"),
    ),
    element(
      "table",
      {},
      element("caption", { className: "unseen" }, "Files and their answers"),
      element("thead", {}, element("tr", {}, head)),
      element("tbody", {}, state.items.map((item) => row(item, state, choose))),
    ),
  );
}

function row(item, state, choose) {
  const answer = item.answers[0];
  const ranked = answer ? Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1]) : [];
  const button = element("button", { type: "button", className: "plain name" }, item.name);
  button.addEventListener("click", () => choose(item));
  return element(
    "tr",
    item === state.chosen ? { className: "chosen", "aria-current": "true" } : {},
    element("td", {}, item.thumbnail ?? element("span", { className: "thumb" })),
    element("td", {}, button),
    element("td", {}, capital(summary(item))),
    element("td", { className: "number" }, ranked.length ? percent(ranked[0][1]) : ""),
    element("td", { className: "optional" }, ranked[1] ? capital(titleOf(answer.task, ranked[1][0], state.labels)) : ""),
  );
}

/** Returns a small picture of the middle of a clip. */
export async function thumbnail(pack) {
  const canvas = element("canvas", { className: "thumb", width: THUMBNAIL.columns, height: THUMBNAIL.rows });
  const bitmap = await createImageBitmap(pack.pictures[Math.floor(pack.pictures.length / 2)]);
  const scale = Math.min(THUMBNAIL.columns / bitmap.width, THUMBNAIL.rows / bitmap.height);
  const [width, height] = [bitmap.width * scale, bitmap.height * scale];
  canvas.getContext("2d").drawImage(bitmap, (THUMBNAIL.columns - width) / 2, (THUMBNAIL.rows - height) / 2, width, height);
  bitmap.close();
  return canvas;
}
