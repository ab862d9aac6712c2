// "Is this right?": a label of the task's list goes back to the service; there is no free text.

import * as api from "./api.js";
import { announce, capital, element } from "./dom.js";

/** Returns the control that says whether `answer` is right. `labels` maps the task's labels to their titles. */
export function feedbackControl(item, answer, labels) {
  item.said ??= new Map();
  const box = element("div", { className: "tool feedback" });
  show(box, item, answer, labels);
  return box;
}

function show(box, item, answer, labels, problem = "") {
  const said = item.said.get(answer.task);
  if (said) {
    box.replaceChildren(element("p", { className: "kept" }, `Thank you. Kept as ${labels.get(said)}.`));
    return;
  }
  const send = (label) => keep(box, item, answer, labels, label);
  const id = `right-${answer.task}`;
  const select = element("select", { id }, element("option", { value: "" }, "Choose the right view"));
  select.append(...[...labels].map(([name, title]) => element("option", { value: name }, capital(title))));
  const button = element("button", { type: "button", className: "second", disabled: true }, "Send");
  select.addEventListener("change", () => (button.disabled = !select.value));
  button.addEventListener("click", () => send(select.value));
  const right = element("button", { type: "button", className: "second" }, "It is right");
  right.addEventListener("click", () => send(answer.label));
  box.replaceChildren(
    ...(answer.label === null ? [] : [right]),
    element(
      "details",
      { open: answer.label === null },
      element("summary", {}, answer.label === null ? "Which view is it?" : "Wrong? Say which it is"),
      element("label", { htmlFor: id, className: "unseen" }, "Right view"),
      element("div", { className: "pick" }, select, button),
    ),
    ...(problem ? [element("p", { className: "problem", role: "alert" }, problem)] : []),
  );
}

async function keep(box, item, answer, labels, label) {
  try {
    await api.sendFeedback(answer.request_id, answer.task, label);
    item.said.set(answer.task, label);
    show(box, item, answer, labels);
    announce("The feedback was kept.");
  } catch (refused) {
    show(box, item, answer, labels, refused.message);
  }
}
