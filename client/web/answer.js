/**
 * One answer as its reader sees it: chunks, by whatever carrier, however often it fails.
 * A slow reader holds back whoever sends.
 */

import { CarrierLost, QUIET, SilentCarrier } from "./carriers.js";
import { EngineLost, EngineUnavailable, HeadstartError, errorOf } from "./errors.js";
import { DATAGRAMS, Ladder, SSE } from "./ladder.js";
import { Signal, now, sleep, within } from "./waiting.js";

const QUEUED_BATCHES = 64;
const CANCEL_TRIES = 3;
const CANCEL_TRY_S = 3;
const CANCEL_WAIT_S = 0.5;
const RETRY_S = 30;

export class Answer {
  /** The gateway's id of the answer; empty where it is no Headstart gateway. */
  id;
  #http;
  #carriers;
  #ladder;
  #onClose;
  #before;
  #taken;
  #chunks;
  #ready = [];
  #arrivals = [];
  #carrying = new Map();
  #changed = new Signal();
  #room = new Signal();
  #error = null;
  #isOver = false;
  #isClosed = false;
  #isByStream = false;

  /** Made by `Headstart`; `first` reads the response to the request, if there was one. */
  constructor(http, carriers, position, first, limits, onClose) {
    this.id = position.id;
    this.#http = http;
    this.#carriers = carriers;
    this.#taken = position;
    this.#before = position.before;
    this.#onClose = onClose;
    this.#chunks = this.#run();
    this.#ladder = new Ladder(this.id !== "" && carriers.has(DATAGRAMS), limits, position.cursor);
    this.#start(SSE, first ?? ((signal) => this.#read(SSE, position.cursor, signal)));
    this.#act(this.#ladder.start());
  }

  [Symbol.asyncIterator]() {
    return this.#chunks;
  }

  /** What the answer is being read by: of "datagrams", "stream", "sse", "poll". */
  get rungs() {
    const name = (rung) => (rung === DATAGRAMS && this.#isByStream ? "stream" : rung);
    return this.#ladder.rungs.map(name);
  }

  /** After the chunk that was taken last: what `Headstart.resume` goes on from. */
  get position() {
    return this.#taken;
  }

  /** Stop reading, and stop the answer unless it has been read to its end. */
  async close() {
    if (this.#isClosed) return;
    const isUnfinished = !this.#isOver;
    this.leave();
    if (isUnfinished && this.id !== "") await this.#delete(1);
  }

  /** Stop reading; the answer goes on, to be resumed from its `position`. */
  leave() {
    if (this.#isClosed) return;
    this.#isOver = this.#isClosed = true;
    for (const carrying of this.#carrying.values()) carrying.abort();
    this.#carrying.clear();
    this.#changed.set();
    this.#room.set();
    this.#onClose(this);
  }

  /** Stop the answer; throws `EngineUnavailable` where the gateway could not be told. */
  async cancel() {
    this.#ready = [];
    this.leave();
    const why = this.id === "" ? null : await this.#delete(CANCEL_TRIES);
    if (why !== null) throw new EngineUnavailable(`the gateway could not be told to stop: ${why}`);
  }

  /** Read every open rung anew from the cursor. */
  reconnect(rungs = this.#ladder.rungs) {
    if (this.#isOver || this.id === "") return;
    for (const rung of rungs) {
      const carrying = this.#carrying.get(rung);
      if (carrying === undefined) continue;
      carrying.abort();
      this.#arrivals.push({ rung, carrying, events: null, error: null });
    }
    this.#changed.set();
  }

  async *#run() {
    try {
      for (;;) {
        while (this.#ready.length === 0 && !this.#isOver) await this.#take();
        if (this.#ready.length === 0) break;
        const { chunk, position, shown } = this.#ready.shift();
        this.#taken = position;
        yield chunk;
        shown?.(); // whoever asks for the next has drawn this one
      }
    } finally {
      await this.close();
    }
    if (this.#error !== null) throw this.#error;
  }

  /** Wait for what comes next, a carrier's events or the ladder's deadline. */
  async #take() {
    this.#act(this.#ladder.expire(now()));
    if (this.#isOver) return;
    if (this.#arrivals.length === 0) {
      const due = this.#ladder.deadline();
      await this.#changed.wait(due === null ? null : due - now());
    }
    const arrived = this.#arrivals.shift();
    this.#room.set();
    if (arrived === undefined) return;
    const { rung, carrying, events, error } = arrived;
    // What was closed before this was looked at does not count, and comes again.
    if (this.#carrying.get(rung) !== carrying) return;
    if (events === null) {
      this.#carrying.delete(rung);
      this.#lost(rung, error);
      return;
    }
    if (events === QUIET) {
      this.#act(this.#ladder.quiet(rung, now()));
      return;
    }
    this.#act(this.#ladder.opened(rung));
    for (const event of events) {
      if (this.#ladder.isOpen(rung)) this.#show(event, rung);
    }
  }

  #lost(rung, error) {
    if (error instanceof HeadstartError && rung !== DATAGRAMS) this.#end(error);
    else if (this.id === "") {
      this.#end(new EngineLost("the connection was lost, and this server cannot resume answers"));
    } else if (error instanceof SilentCarrier && rung !== DATAGRAMS) {
      this.#act(this.#ladder.quiet(rung, now()));
    } else {
      this.#act(this.#ladder.failed(rung, now()));
    }
  }

  #show(event, rung) {
    if (this.#isOver) return;
    const { cursor, chunk, isDone, error, shown } = event;
    if (rung === DATAGRAMS) this.#isByStream = event.isByStream;
    if (cursor !== null) {
      const isNew = cursor > this.#ladder.cursor;
      if (isNew) this.#before = this.#ladder.cursor;
      this.#act(this.#ladder.advanced(rung, cursor, now()));
      if (!isNew) {
        shown?.();
        return;
      }
    }
    if (chunk !== undefined) {
      const position = { id: this.id, cursor: this.#ladder.cursor, before: this.#before };
      this.#ready.push({ chunk, position, shown });
      return;
    }
    shown?.();
    this.#end(isDone ? null : error);
  }

  #end(error) {
    this.#isOver = true;
    this.#error = error;
  }

  #act(actions, isClimb) {
    for (const { type, rung, after } of actions) {
      if (type === "open") {
        this.#start(rung, (signal) => this.#read(rung, after, signal, isClimb));
      } else if (type === "close") {
        this.#carrying.get(rung)?.abort();
        this.#carrying.delete(rung);
      } else if (type === "watch") {
        this.#watch(rung);
      } else {
        this.#end(new EngineLost("the connection was lost, and nobody answers at the gateway"));
      }
    }
  }

  async #watch(rung) {
    const carrier = this.#carriers.get(rung);
    while (!(await carrier.isUsable())) {
      if (this.#isOver || carrier.isNone) return;
      await this.#changed.wait(RETRY_S);
    }
    if (this.#isOver) return;
    this.#act(this.#ladder.available(rung), true);
    this.#changed.set();
  }

  #read(rung, after, signal, isClimb) {
    return this.#carriers.get(rung).read(this.#http, this.id, after, this.#before, signal, isClimb);
  }

  #start(rung, read) {
    const carrying = new AbortController();
    this.#carrying.set(rung, carrying);
    this.#carry(rung, carrying, read(carrying.signal));
  }

  async #carry(rung, carrying, batches) {
    const { signal } = carrying;
    let failure = null;
    try {
      for await (const events of batches) {
        if (signal.aborted) return;
        this.#arrivals.push({ rung, carrying, events, error: null });
        this.#changed.set();
        while (this.#arrivals.length >= QUEUED_BATCHES && !signal.aborted) await this.#room.wait();
      }
    } catch (error) {
      failure = error;
    }
    if (signal.aborted) return;
    if (failure !== null && !(failure instanceof CarrierLost || failure instanceof HeadstartError)) {
      console.error(failure);
      if (rung !== DATAGRAMS) this.#end(failure); // a fault of ours
    }
    this.#arrivals.push({ rung, carrying, events: null, error: failure });
    this.#changed.set();
  }

  /** Ask the gateway to stop; returns why it could not be asked, or null. */
  async #delete(numTries) {
    for (let left = numTries - 1; ; left--) {
      let why;
      try {
        const asking = this.#http.fetch(`/v1/streams/${encodeURIComponent(this.id)}`, {
          method: "DELETE",
          keepalive: true,
        });
        const response = await within(asking, CANCEL_TRY_S);
        // An answer that it does not know any more has stopped as well.
        if (response.ok || response.status === 404) return null;
        why = String(errorOf(response.status, await within(response.text(), CANCEL_TRY_S)));
      } catch (error) {
        why = String(error);
      }
      if (left === 0) return why;
      await sleep(CANCEL_WAIT_S);
    }
  }
}
