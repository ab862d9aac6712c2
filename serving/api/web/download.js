// Answers as files. CSV and JSON are made in the browser, so file names still stay there; DICOM is made by the service.

import { dicomOf } from "./api.js";
import { announce, element } from "./dom.js";
import { say } from "./signin.js";

/** Returns the buttons that save the answers to `items`; `what` says which they are. */
export function downloads(items, what) {
  const answered = items.some((item) => item.answers.length);
  const made = [
    ["DICOM", (event) => saveDicom(items, event.target)],
    ["CSV", () => save("echoplane.csv", "text/csv", csv(items))],
    ["JSON", () => save("echoplane.json", "application/json", json(items))],
  ].map(([name, action]) => {
    const one = button(name, action, !answered);
    one.setAttribute("aria-label", `Save ${what} as ${name}`);
    return one;
  });
  return element("div", { className: "row" }, element("span", { className: "hint" }, `Save ${what} as`), made);
}

async function saveDicom(items, pressed) {
  pressed.disabled = true;
  announce("Making DICOM objects.");
  try {
    const { zip, leftOut } = await dicomOf(items.filter((item) => item.answers.length).map((item) => item.file));
    save("echoplane-dicom.zip", zip.type, zip);
    say(leftOut ? `${leftOut} answer${leftOut > 1 ? "s are" : " is"} not among the DICOM objects; answers.json in the zip says why.` : "");
  } catch (refused) {
    say(refused.message);
  }
  pressed.disabled = false;
}

/** Returns a button for each file of an answer, such as masks. */
export function fileButtons(answer) {
  const names = Object.keys(answer.files);
  return names.length ? element("div", { className: "row" }, names.map((name) => button(`Save ${name}`, () => saveFile(answer, name)))) : null;
}

function saveFile(answer, name) {
  save(name, "application/octet-stream", bytesOf(answer.files[name]));
}

export const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

function button(text, action, disabled = false) {
  const made = element("button", { type: "button", className: "second", disabled }, text);
  made.addEventListener("click", action);
  return made;
}

function save(name, type, content) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

function json(items) {
  const rows = items.map(({ name, answers, problems }) => ({ file: name, answers: answers.map(({ files, ...rest }) => rest), problems }));
  return JSON.stringify({ research_use: "Research use only. Not a medical device.", files: rows }, null, 1);
}

export function csv(items) {
  const head = ["file", "task", "label", "title", "confidence", "second", "second_probability", "version", "request_id", "problem"];
  const rows = items.flatMap((item) => [...item.answers.map((answer) => answerRow(item, answer)), ...item.problems.map((problem) => problemRow(item, problem))]);
  return [head, ...rows].map((cells) => cells.map(cell).join(",")).join("\r\n") + "\r\n";
}

function answerRow(item, answer) {
  const second = Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1])[1] ?? ["", ""];
  return [item.name, answer.task, answer.label ?? "", answer.title, answer.confidence ?? "", ...second, answer.model.version, answer.request_id, ""];
}

const problemRow = (item, problem) => [item.name, "", "", "", "", "", "", "", problem.request_id ?? "", problem.detail];

/** A cell that no spreadsheet takes for a formula. */
function cell(value) {
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
