// Plays a pack of JPEG frames on a canvas. Few frames are kept decoded, so a long clip needs little memory.

import { byId } from "./dom.js";

const KEPT = 80;
const ASSUMED_FRAME_TIME_MS = 1000 / 30;

export class Player {
  constructor() {
    this.canvas = byId("picture");
    this.context = this.canvas.getContext("2d");
    this.pack = null;
    this.overlay = null;
    this.frame = 0;
    this.playing = false;
    this.decoded = new Map();
    this._listen();
  }

  /** Shows a pack from its first frame, and plays it unless the reader has asked for less motion. */
  show(pack) {
    this.clear();
    this.pack = pack;
    const size = pack.canvas ?? pack.header;
    this.canvas.width = size.columns;
    this.canvas.height = size.rows;
    const count = pack.pictures.length;
    byId("frame").max = count - 1;
    byId("controls").hidden = count < 2;
    this.canvas.setAttribute("aria-label", count > 1 ? `Clip of ${pack.header.frame_count} frames` : "Still picture");
    this.goTo(0);
    if (count > 1 && !matchMedia("(prefers-reduced-motion: reduce)").matches) this.play();
  }

  clear() {
    this.pause();
    for (const bitmap of this.decoded.values()) bitmap.then((made) => made.close(), () => {});
    this.decoded.clear();
    this.pack = null;
    this.overlay = null;
    this.canvas.width = 4;
    this.canvas.height = 3;
    byId("controls").hidden = true;
    this.canvas.setAttribute("aria-label", "No clip");
  }

  /** Draws `paint(context, header)` over each frame; null for nothing. */
  setOverlay(paint) {
    this.overlay = paint;
    this.goTo(this.frame);
  }

  async goTo(frame) {
    const pack = this.pack;
    if (!pack) return;
    this.frame = (frame + pack.pictures.length) % pack.pictures.length;
    const wanted = this.frame;
    const bitmap = await this._bitmap(pack, wanted);
    if (this.pack !== pack || this.frame !== wanted) return;
    if (pack.paint) pack.paint(this.context, bitmap, wanted);
    else this.context.drawImage(bitmap, 0, 0);
    this.overlay?.(this.context, pack.header);
    byId("frame").value = wanted;
    byId("frame-number").textContent = `${wanted * pack.header.step + 1} of ${pack.header.frame_count}`;
  }

  step(frames) {
    this.pause();
    this.goTo(this.frame + frames);
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  play() {
    if (!this.pack || this.pack.pictures.length < 2) return;
    this.playing = true;
    this._showState();
    const pack = this.pack;
    let due = performance.now();
    const tick = async (now) => {
      if (!this.playing || this.pack !== pack) return;
      const time_ms = (pack.header.frame_time_ms ?? ASSUMED_FRAME_TIME_MS * pack.header.step) / Number(byId("speed").value);
      if (now >= due) {
        due = Math.max(due + time_ms, now);
        await this.goTo(this.frame + 1);
      }
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  pause() {
    this.playing = false;
    this._showState();
  }

  _bitmap(pack, frame) {
    if (!this.decoded.has(frame)) {
      if (this.decoded.size >= KEPT) {
        const [oldest, bitmap] = this.decoded.entries().next().value;
        this.decoded.delete(oldest);
        bitmap.then((made) => made.close(), () => {});
      }
      this.decoded.set(frame, createImageBitmap(pack.pictures[frame]));
    }
    return this.decoded.get(frame);
  }

  _showState() {
    const button = byId("play");
    button.textContent = this.playing ? "\u275A\u275A" : "\u25B6";
    button.setAttribute("aria-label", this.playing ? "Pause" : "Play");
  }

  _listen() {
    byId("play").addEventListener("click", () => this.toggle());
    byId("back").addEventListener("click", () => this.step(-1));
    byId("forward").addEventListener("click", () => this.step(1));
    byId("frame").addEventListener("input", (event) => {
      this.pause();
      this.goTo(Number(event.target.value));
    });
    document.addEventListener("keydown", (event) => this._onKey(event));
  }

  _onKey(event) {
    const busy = event.target.closest?.("button, input, select, textarea, summary, a");
    if (!this.pack || busy || event.altKey || event.ctrlKey || event.metaKey) return;
    const actions = {
      " ": () => this.toggle(),
      ArrowLeft: () => this.step(-1),
      ArrowRight: () => this.step(1),
      Home: () => this.step(-this.frame),
      End: () => this.step(this.pack.pictures.length - 1 - this.frame),
    };
    if (!(event.key in actions)) return;
    event.preventDefault();
    actions[event.key]();
  }
}
