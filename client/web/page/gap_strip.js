/** How long the reader has waited between two visible steps of an answer, and a drawing of it. */

const BAR = 3;
const FULL_S = 0.5;
/** Above this a reader sees a pause. */
const PAUSE_S = 0.2;
const MOST_GAPS = 1024;

/** Part of the strip's height: a root, so that both 20 ms and 200 ms can be told from nothing. */
const height = (gap) => Math.sqrt(Math.min(1, gap / FULL_S));

export class GapStrip {
  #canvas;
  #gaps = [];
  #lastAt = null;
  #longestS = 0;
  #numPauses = 0;

  constructor(canvas) {
    this.#canvas = canvas;
  }

  /** An answer begins. */
  clear() {
    this.#gaps = [];
    this.#lastAt = null;
    this.#longestS = this.#numPauses = 0;
  }

  /** Text has become visible, at so many seconds. */
  step(at) {
    if (this.#lastAt !== null) {
      const gap = at - this.#lastAt;
      this.#gaps.push(gap);
      if (this.#gaps.length > MOST_GAPS) this.#gaps.shift();
      this.#longestS = Math.max(this.#longestS, gap);
      this.#numPauses += gap > PAUSE_S;
    }
    this.#lastAt = at;
  }

  /** What comes next counts from its own time: nothing could be seen meanwhile, or was due. */
  pause() {
    this.#lastAt = null;
  }

  /** The longest gap and the number of pauses, with the gap that goes on at this time. */
  soFar(at) {
    const gap = this.#goingOn(at);
    return {
      longestS: Math.max(this.#longestS, gap),
      numPauses: this.#numPauses + Number(gap > PAUSE_S),
    };
  }

  /** Draw the newest gaps, and the one that goes on where it is a pause already. */
  draw(at) {
    const canvas = this.#canvas;
    const scale = globalThis.devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * scale);
    const full = Math.round(canvas.clientHeight * scale);
    if (canvas.width !== width || canvas.height !== full) [canvas.width, canvas.height] = [width, full];
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, full);
    const gap = this.#goingOn(at);
    const gaps = gap > PAUSE_S ? [...this.#gaps, gap] : this.#gaps;
    const bar = BAR * scale;
    const style = getComputedStyle(canvas);
    const colours = [style.color, style.getPropertyValue("--bad")];
    const shown = gaps.slice(-Math.floor(width / bar));
    shown.forEach((gap, index) => {
      const size = height(gap) * full;
      context.fillStyle = colours[Number(gap > PAUSE_S)];
      context.fillRect(index * bar, full - size, bar - scale, size);
    });
    if (shown.length === 0) return;
    context.globalAlpha = 0.35;
    context.fillStyle = style.getPropertyValue("--soft");
    context.fillRect(0, Math.round(full * (1 - height(PAUSE_S))), width, Math.max(1, scale / 2));
    context.globalAlpha = 1;
  }

  #goingOn(at) {
    return this.#lastAt === null ? 0 : at - this.#lastAt;
  }
}
