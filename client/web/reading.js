/** One answer as it is read over a session: its log, growing, and how it ended. */

import { ProtocolViolation } from "./errors.js";
import { Receiver } from "./receiver.js";
import { Signal, now } from "./waiting.js";

export class Reading {
  /** The head of the answer, once it is here; records may be here before it. */
  answer = null;
  /** Why the answer is not whole, in OpenAI's words, once it is over. */
  error = null;
  /** Nothing has come for three seconds: another way may be quicker, from the same cursor. */
  isQuiet = false;
  isOver = false;
  /** Whether what came last came over a reliable stream. */
  isByStream = false;
  #receiver;
  #send;
  #ready = [];
  #end = null;
  #changed = new Signal();
  #timer = null;

  constructor(number, send) {
    this.number = number;
    this.#receiver = new Receiver(number);
    this.#send = send;
  }

  /** Whether everything is here, and its digest right. */
  get isWhole() {
    return this.#receiver.isComplete;
  }

  /** Wait for the head, or records that overtake it; false where the session ended first. */
  async begun() {
    while (!this.#hasBegun && !this.isOver) await this.#changed.wait();
    return this.#hasBegun;
  }

  get #hasBegun() {
    return this.answer !== null || this.#receiver.shown > 0;
  }

  /** The next whole records and the cursor after them; null where there are no more. */
  async next() {
    while (this.#ready.length === 0 && !this.isOver && !this.isQuiet) await this.#changed.wait();
    return this.#ready.shift() ?? null;
  }

  /** Wait until something comes again where it was quiet; false where it is over first. */
  async heard() {
    while (this.isQuiet && !this.isOver) await this.#changed.wait();
    return !this.isQuiet;
  }

  /** Whoever draws has been given everything up to this cursor. */
  rendered(cursor) {
    if (!this.isOver) this.#do((receiver) => receiver.rendered(cursor, now()));
  }

  /** Say where this reader is, unasked: the page was asleep. */
  attach() {
    if (this.answer?.is_carried && !this.isOver) this.#do((receiver) => receiver.attach(now()));
  }

  // As the session's.

  began(answer) {
    this.answer = answer;
    this.attach();
    this.#changed.set();
    this.#checkOver();
  }

  snapshot(snapshot) {
    // Who goes on sending has not heard that everything is here: say it again.
    if (this.isOver && !this.isWhole) return;
    this.isByStream = false;
    this.#isHeard();
    this.#do((receiver) => receiver.snapshot(snapshot, now()));
  }

  caughtUp(start, data) {
    if (this.isOver) return;
    this.isByStream = true;
    this.#isHeard();
    this.#do((receiver) => receiver.catchUp({ start, data }, now()));
  }

  /** The server says that the answer, or the carrying of it, is over. */
  ended(end) {
    this.#end = end;
    if (end.digest && !this.isOver) {
      const digest = Uint8Array.from(end.digest.match(/../g), (hex) => parseInt(hex, 16));
      const piece = { start: end.cursor, data: new Uint8Array() };
      this.#do((receiver) =>
        receiver.snapshot({ number: 0, digest, pieces: [piece] }, now()),
      );
    }
    if (end.is_whole === false) this.close(end.error ?? null);
    this.#checkOver();
  }

  /** Nothing more will come. */
  close(error) {
    if (this.isOver) return;
    this.isOver = true;
    this.error = error;
    this.#arm();
    this.#changed.set();
  }

  #isHeard() {
    if (this.isQuiet) this.#changed.set();
    this.isQuiet = false;
  }

  #do(work) {
    try {
      for (const action of work(this.#receiver)) this.#act(action);
    } catch (error) {
      if (!(error instanceof ProtocolViolation)) throw error;
      this.close({ message: error.message, type: error.type });
    }
    this.#arm();
  }

  #act(action) {
    if (action.type === "ack") {
      this.#send(this.number, action.datagram);
    } else if (action.type === "complete") {
      this.#checkOver();
    } else {
      if (action.type === "quiet") this.isQuiet = true;
      else this.#ready.push({ records: action.records, cursor: this.#receiver.shown });
      this.#changed.set();
    }
  }

  #checkOver() {
    // The head comes on a stream of its own, and perhaps after all else.
    if (this.answer !== null && this.#end !== null && this.isWhole) {
      this.close(this.#end.error ?? null);
    }
  }

  #arm() {
    clearTimeout(this.#timer);
    const due = this.isOver && !this.isWhole ? null : this.#receiver.deadline();
    if (due !== null) {
      const work = (receiver) => receiver.expire(now());
      this.#timer = setTimeout(() => this.#do(work), Math.max(0, due - now()) * 1000);
    }
  }
}
