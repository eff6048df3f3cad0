/** The line above the composer: what an answer comes by, and how long its reader has waited. */

import { GapStrip } from "./gap_strip.js";

/** Between two drawings: once a frame they would cost more than the text does. */
const EVERY_MS = 250;
const RUNGS = { datagrams: "datagrams", stream: "WebTransport stream", sse: "SSE", poll: "polling" };

const now = () => performance.now() / 1000;
const ms = (seconds) => `${Math.round(seconds * 1000)} ms`;

export class Meter {
  #badge;
  #figures;
  #strip;
  #timer = null;
  #askedAt = null;
  #firstS = null;

  constructor(badge, figures, canvas) {
    this.#badge = badge;
    this.#figures = figures;
    this.#strip = new GapStrip(canvas);
    document.addEventListener("visibilitychange", () => this.#strip.pause());
    new ResizeObserver(() => this.#strip.draw(now())).observe(canvas);
  }

  /** An answer is asked for now, or was before the page was loaded. */
  begin({ isAsked }) {
    this.clear();
    this.#mark("none", "asking");
    this.#askedAt = isAsked ? now() : null;
    this.#timer = setInterval(() => this.#draw(), EVERY_MS);
  }

  /** More of it can be seen. */
  step() {
    if (document.hidden) this.#strip.pause();
    else this.#strip.step(now());
    if (this.#firstS !== null || this.#askedAt === null) return;
    this.#firstS = now() - this.#askedAt;
    this.#draw();
  }

  /** It comes by these now. */
  by(rungs) {
    const name = rungs.join(" ");
    if (name === "" || this.#badge.dataset.rung === name) return;
    this.#mark(name, rungs.map((rung) => RUNGS[rung]).join(" + "));
  }

  /** It is over. */
  end() {
    clearInterval(this.#timer);
    this.#strip.pause();
    this.#draw();
  }

  clear() {
    clearInterval(this.#timer);
    this.#mark("none", "idle");
    this.#strip.clear();
    this.#askedAt = this.#firstS = null;
    this.#figures.textContent = "";
    this.#strip.draw(now());
  }

  #mark(rung, text) {
    this.#badge.dataset.rung = rung;
    this.#badge.textContent = text;
  }

  #draw() {
    const { longestS, numPauses } = this.#strip.soFar(now());
    const first = this.#firstS === null ? [] : [`first text ${ms(this.#firstS)}`];
    const pauses = numPauses === 1 ? "1 pause" : `${numPauses} pauses`;
    this.#figures.textContent = [...first, `longest gap ${ms(longestS)}`, pauses].join(" · ");
    this.#strip.draw(now());
  }
}
