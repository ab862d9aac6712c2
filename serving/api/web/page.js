// The page: sign-in, files in, answers out.

import * as api from "./api.js";
import { showAnswer, capital, titleOf } from "./answer.js";
import { announce, byId, element, percent } from "./dom.js";
import { Player } from "./player.js";

const AT_ONCE = 2;
const PACKS_KEPT = 4;
const THUMBNAIL = { columns: 160, rows: 120 };

const player = new Player();
const state = { items: [], chosen: null, labels: new Map(), running: 0 };

async function start() {
  setUpTheme();
  listen();
  await enter();
}

/** Shows the page if the service lets us in, else the form for a token. */
async function enter() {
  try {
    const found = await api.models();
    state.labels = new Map(found.map((slot) => [slot.task, new Map(slot.labels.map((label) => [label.name, label.title]))]));
    showSignedIn(true);
    say(found.some((slot) => slot.ready) ? "" : "No model is loaded yet; answers will come once one is.");
  } catch (refused) {
    api.forgetToken();
    showSignedIn(false, refused.status === 401);
    if (refused.status !== 401) say(refused.message);
  }
}

function showSignedIn(signedIn, mayTry = false) {
  byId("drop").hidden = !signedIn;
  byId("sign-in").hidden = signedIn || !mayTry;
  byId("sign-out").hidden = !api.hasToken();
  for (const link of document.querySelectorAll("[data-signed-in]")) link.hidden = !signedIn || api.hasToken();
  if (!byId("sign-in").hidden) byId("token").focus();
}

async function signIn(event) {
  event.preventDefault();
  api.setToken(byId("token").value.trim());
  await enter();
  const problem = byId("sign-in-problem");
  problem.hidden = byId("sign-in").hidden;
  problem.textContent = "This token is unknown or has ended.";
  byId("token").value = "";
}

function signOut() {
  api.forgetToken();
  location.reload();
}

function say(text) {
  byId("notice").textContent = capital(text);
  byId("notice").hidden = !text;
}

function add(files) {
  if (!files.length) return;
  const added = files.map((file) => ({ file, name: file.name, state: "waiting", answers: [], problems: [], pack: null, thumbnail: null }));
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
  announce(`${item.name}: ${summary(item)}`);
}

async function picture(item) {
  try {
    item.pack = await api.framesOf(item.file);
    item.thumbnail ??= await thumbnail(item.pack);
  } catch (refused) {
    item.noPicture = refused.message;
  }
  const kept = state.items.filter((other) => other.pack && other !== state.chosen);
  for (const other of kept.slice(0, -PACKS_KEPT)) other.pack = null;
  refresh(item, { picture: true });
}

async function thumbnail(pack) {
  const canvas = element("canvas", { className: "thumb", width: THUMBNAIL.columns, height: THUMBNAIL.rows });
  const bitmap = await createImageBitmap(pack.pictures[Math.floor(pack.pictures.length / 2)]);
  const scale = Math.min(THUMBNAIL.columns / bitmap.width, THUMBNAIL.rows / bitmap.height);
  const [width, height] = [bitmap.width * scale, bitmap.height * scale];
  canvas.getContext("2d").drawImage(bitmap, (THUMBNAIL.columns - width) / 2, (THUMBNAIL.rows - height) / 2, width, height);
  bitmap.close();
  return canvas;
}

function choose(item) {
  state.chosen = item;
  player.clear();
  refresh(item, { picture: true });
  if (!item.pack && item.state === "answered" && !item.noPicture) picture(item);
}

function refresh(item, changed = {}) {
  if (item === state.chosen) {
    showAnswer(byId("answer"), item, state.labels);
    if (changed.picture) showPicture(item);
  }
  showStudy();
}

function showPicture(item) {
  const note = byId("screen-note");
  note.hidden = item.pack !== null;
  note.textContent = item.noPicture ? `No picture: ${item.noPicture}` : "Reading the clip.";
  if (item.pack && player.pack !== item.pack) player.show(item.pack);
}

function summary(item) {
  if (item.state !== "answered") return item.state === "asking" ? "asking" : "waiting";
  const [answer] = item.answers;
  if (!answer) return "no answer";
  return answer.label === null ? "cannot tell" : answer.title;
}

/** Lists the files, if there is more than one. */
function showStudy() {
  const section = byId("study");
  section.hidden = state.items.length < 2;
  if (section.hidden) return;
  const titles = ["", "File", "View", "Sure", "Nearest other"];
  const classes = ["", "", "", "number", "optional"];
  const head = element("tr", {}, titles.map((title, k) => element("th", { scope: "col", className: classes[k] }, title || element("span", { className: "unseen" }, "Picture"))));
  section.replaceChildren(element("table", {}, element("caption", { className: "unseen" }, "Files and their answers"), element("thead", {}, head), element("tbody", {}, state.items.map(row))));
}

function row(item) {
  const answer = item.answers[0];
  const ranked = answer ? Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1]) : [];
  const button = element("button", { type: "button", className: "plain name" }, item.name);
  button.addEventListener("click", () => {
    choose(item);
    byId("answer").focus();
  });
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

function listen() {
  byId("sign-in").addEventListener("submit", signIn);
  byId("sign-out").addEventListener("click", signOut);
  byId("choose").addEventListener("click", () => byId("files").click());
  byId("files").addEventListener("change", (event) => {
    add([...event.target.files]);
    event.target.value = "";
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
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    if (inside(event)) add([...event.dataTransfer.files]);
  });
}

function setUpTheme() {
  const dark = () => document.documentElement.dataset.theme === "dark";
  const set = (theme) => {
    document.documentElement.dataset.theme = theme;
    byId("theme").textContent = theme === "dark" ? "Light" : "Dark";
    byId("theme").setAttribute("aria-label", theme === "dark" ? "Light colours" : "Dark colours");
  };
  const system = matchMedia("(prefers-color-scheme: dark)");
  set(localStorage.getItem("echoplane-theme") ?? (system.matches ? "dark" : "light"));
  byId("theme").addEventListener("click", () => {
    set(dark() ? "light" : "dark");
    localStorage.setItem("echoplane-theme", document.documentElement.dataset.theme);
  });
}

start();
