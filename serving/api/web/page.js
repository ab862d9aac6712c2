// The page: sign-in, files in, answers out.

import * as api from "./api.js";
import { showAnswer } from "./answer.js";
import { addContours } from "./cine.js";
import { announce, byId } from "./dom.js";
import { explainControl, overlayOf } from "./explain.js";
import { feedbackControl } from "./feedback.js";
import { droppedFiles, studiesOf } from "./files.js";
import { Player } from "./player.js";
import { say, signIn, signOut } from "./signin.js";
import { showStudy, summary, thumbnail } from "./study.js";
import { setUpTheme } from "./theme.js";

const AT_ONCE = 2;
const PACKS_KEPT = 4;

const player = new Player();
const state = { items: [], chosen: null, labels: new Map(), feedback: false, running: 0 };

async function welcome(found) {
  state.feedback = found.feedback;
  state.labels = new Map(found.models.map((slot) => [slot.task, new Map(slot.labels.map((label) => [label.name, label.title]))]));
  byId("drop").hidden = false;
  if (!found.models.some((slot) => slot.ready)) say("No model is loaded yet; answers will come once one is.");
}

async function add(files) {
  if (!files.length) return;
  announce(`Reading ${files.length} files.`);
  const { studies, left } = await studiesOf(files);
  say(left ? `${left} file${left > 1 ? "s were" : " was"} left out: neither a picture nor a clip that is read.` : "");
  if (!studies.length) return;
  const added = studies.map(({ name, file }) => ({ file, name, state: "waiting", answers: [], problems: [], pack: null, thumbnail: null }));
  state.items.push(...added);
  byId("work").hidden = false;
  byId("drop").classList.add("small");
  choose(added[0]);
  run();
}

function run() {
  const next = state.items.find((item) => item.state === "waiting");
  if (!next || state.running >= AT_ONCE) return;
  state.running += 1;
  next.state = "asking";
  refresh(next);
  Promise.all([ask(next), picture(next)]).finally(() => {
    state.running -= 1;
    run();
  });
  run();
}

async function ask(item) {
  try {
    const entries = await api.answersTo(item.file);
    item.answers = entries.flatMap((entry) => entry.answer ?? []);
    item.problems = entries.flatMap((entry) => entry.problem ?? []);
  } catch (refused) {
    item.problems = [{ detail: refused.message, request_id: refused.requestId }];
    if (refused.status === 401) signOut();
  }
  item.state = "answered";
  refresh(item);
  await contours(item);
  announce(`${item.name}: ${summary(item)}`);
}

async function picture(item) {
  try {
    item.pack = await api.framesOf(item.file);
    item.thumbnail ??= await thumbnail(item.pack);
    await contours(item);
  } catch (refused) {
    item.noPicture = refused.message;
  }
  const kept = state.items.filter((other) => other.pack && other !== state.chosen);
  for (const other of kept.slice(0, -PACKS_KEPT)) other.pack = null;
  // the answer is left as it is, since somebody may be filling in what is right; an explanation depends on the picture
  refresh(item, { picture: true, answer: Boolean(item.explained) });
}

/** Draws the contours of a cine MR once both its pictures and its answer are there. */
async function contours(item) {
  if (!(await addContours(item)) || player.pack !== item.pack) return;
  player.show(item.pack);
}

function choose(item) {
  state.chosen = item;
  player.clear();
  refresh(item, { picture: true });
  if (!item.pack && item.state === "answered" && !item.noPicture) picture(item);
}

function refresh(item, { answer = true, picture = false } = {}) {
  if (item === state.chosen) {
    if (answer) showAnswer(byId("answer"), item, state.labels, (given) => tools(item, given));
    if (picture) showPicture(item);
  }
  showStudy(byId("study"), state, (chosen) => {
    choose(chosen);
    byId("answer").focus();
  });
}

/** Returns the controls below an answer: only a classification is explained and corrected. */
function tools(item, answer) {
  if (!Object.keys(answer.probabilities).length) return [];
  const labels = state.labels.get(answer.task) ?? new Map();
  return [explainControl(item, answer, player), ...(state.feedback ? [feedbackControl(item, answer, labels)] : [])];
}

function showPicture(item) {
  const note = byId("screen-note");
  note.hidden = item.pack !== null;
  note.textContent = item.noPicture ? `No picture: ${item.noPicture}` : "Reading the clip.";
  if (!item.pack || player.pack === item.pack) return;
  player.show(item.pack);
  player.setOverlay(overlayOf(item));
}

function listen() {
  byId("choose").addEventListener("click", () => byId("files").click());
  byId("choose-folder").addEventListener("click", () => byId("folder").click());
  for (const input of [byId("files"), byId("folder")])
    input.addEventListener("change", () => {
      add([...input.files]);
      input.value = "";
    });
  const inside = (event) => !byId("drop").hidden && [...(event.dataTransfer?.types ?? [])].includes("Files");
  for (const kind of ["dragenter", "dragover"])
    document.addEventListener(kind, (event) => {
      if (!inside(event)) return;
      event.preventDefault();
      document.body.classList.add("dragging");
    });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dragging");
  });
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    if (inside(event)) add(await droppedFiles(event.dataTransfer));
  });
}

setUpTheme();
listen();
signIn(api.models, welcome);
