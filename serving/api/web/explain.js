// Heat map of what an answer depends on, drawn over the clip.

import * as api from "./api.js";
import { announce, element } from "./dom.js";

const NOTHING = 0.01;
const WARM = [255, 140, 26];
const MAX_OPACITY = 0.7;

/** Returns the control that explains `answer`; `item` keeps the explanation. */
export function explainControl(item, answer, player) {
  const box = element("div", { className: "tool" });
  const button = element("button", { type: "button", className: "second" });
  const note = element("p", { className: "hint" });
  box.append(button, note);
  const shown = () => item.explained?.task === answer.task && item.explained.visible;
  const show = () => {
    button.textContent = shown() ? "Hide what it depends on" : "What does it depend on?";
    button.setAttribute("aria-pressed", String(Boolean(shown())));
    note.textContent = shown() ? caption(item.explained, item.pack) : "";
  };
  button.addEventListener("click", async () => {
    if (shown()) item.explained.visible = false;
    else await explain(item, answer, button, note);
    player.setOverlay(overlayOf(item));
    show();
  });
  show();
  return box;
}

async function explain(item, answer, button, note) {
  if (item.explained?.task !== answer.task) {
    button.disabled = true;
    button.textContent = "Looking at each part";
    try {
      item.explained = await api.explanationOf(item.file, answer.task);
    } catch (refused) {
      note.textContent = refused.message;
      return;
    } finally {
      button.disabled = false;
    }
  }
  item.explained.visible = true;
  announce(caption(item.explained, item.pack));
}

const largest = (explained) => Math.max(...explained.losses.flat());

const fits = (explained, pack) =>
  pack && explained.corner && explained.corner[0] === pack.header.region[0] && explained.corner[1] === pack.header.region[1];

function caption(explained, pack) {
  const loss = largest(explained);
  if (loss < NOTHING) return "No single part decides: blurring any one changes the probability by less than 1 point.";
  const points = Math.round(100 * loss);
  const where = fits(explained, pack) ? "" : " The parts cannot be placed on this picture.";
  return `Warm parts matter: blurring the warmest costs ${points} of ${Math.round(100 * explained.probability)} points of probability.${where}`;
}

/** Returns what the player paints over each frame, or null. */
export function overlayOf(item) {
  const explained = item.explained;
  if (!explained?.visible || largest(explained) < NOTHING || !fits(explained, item.pack)) return null;
  const map = heatMap(explained);
  return (context, header) => {
    // The scan region is fitted into the network's input, centred, with its aspect kept.
    const scale = Math.min(explained.input_rows / header.rows, explained.input_columns / header.columns);
    const [width, height] = [explained.input_columns / scale, explained.input_rows / scale];
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    context.drawImage(map, (header.columns - width) / 2, (header.rows - height) / 2, width, height);
  };
}

function heatMap({ losses }) {
  const side = losses.length;
  const most = Math.max(...losses.flat());
  const canvas = element("canvas", { width: side, height: side });
  const context = canvas.getContext("2d");
  const image = context.createImageData(side, side);
  losses.flat().forEach((loss, k) => image.data.set([...WARM, 255 * MAX_OPACITY * Math.max(0, loss / most)], 4 * k));
  context.putImageData(image, 0, 0);
  return canvas;
}
