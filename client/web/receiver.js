/**
 * Reads one token log from datagrams and catch-up bytes:
 * `headstart.stages.datagram_receiver`, step for step.
 * Every call returns what is to be done, in order:
 * `{type: "render", start, records}`, `{type: "ack", datagram}`, `{type: "complete"}`,
 * `{type: "quiet"}`; it throws a `ProtocolViolation` where the sender contradicts itself.
 */

import { Bytes } from "./bytes.js";
import { ProtocolViolation } from "./errors.js";
import { Sha256 } from "./sha256.js";
import { DIGEST_BYTES, encodeAck } from "./wire.js";

const ACK_INTERVAL_S = 0.01;
const PING_S = 1.0;
const QUIET_S = 3.0;
const MAX_WAITING_BYTES = 1 << 20;
const NUMBERS_REMEMBERED = 1024;

export class Receiver {
  isComplete = false;
  /** Cursor up to which everything is here. */
  have = 0;
  /** Cursor up to which whole records were handed on. */
  shown = 0;
  #stream;
  #log = new Bytes();
  #hash = new Sha256();
  #waiting = new Map();
  #waitingBytes = 0;
  #end = null;
  #newest = 0;
  #numReceived = 0;
  #seen = 0n;
  #newestAt = null;
  #renderedAt = null;
  #awaitsRender = false;
  #startedAt = null;
  #lastAckAt = -Infinity;
  #isAckDue = false;
  #lastHeardAt = null;
  #numPings = 0;
  #isQuiet = false;

  constructor(stream) {
    this.#stream = stream;
  }

  /** Say where this reader is: the first thing on a session, and after any change of path. */
  attach(now) {
    this.#begin(now);
    this.#isAckDue = true;
    this.#lastAckAt = -Infinity;
    return this.expire(now);
  }

  /** What was handed on up to this cursor has been shown. */
  rendered(cursor, now) {
    this.#begin(now);
    if (this.#awaitsRender && cursor >= this.shown) {
      this.#awaitsRender = false;
      this.#renderedAt = now;
    }
    return this.expire(now);
  }

  snapshot(snapshot, now) {
    this.#begin(now);
    this.#heard(now);
    this.#count(snapshot.number, now);
    this.#takeEnd(snapshot);
    return this.#took(snapshot.pieces, now);
  }

  /** Bytes came over a reliable stream. */
  catchUp(piece, now) {
    this.#begin(now);
    this.#heard(now);
    return this.#took([piece], now);
  }

  /** When something is due, or null. */
  deadline() {
    if (this.#isAckDue) return this.#lastAckAt + ACK_INTERVAL_S;
    if (this.isComplete || this.#lastHeardAt === null) return null;
    const quietAt = this.#isQuiet ? Infinity : this.#lastHeardAt + QUIET_S;
    return Math.min(quietAt, this.#lastHeardAt + PING_S * (this.#numPings + 1));
  }

  /** Do what is due. */
  expire(now) {
    const actions = [];
    if (!this.isComplete && this.#lastHeardAt !== null) {
      if (now >= this.#lastHeardAt + PING_S * (this.#numPings + 1)) {
        this.#numPings++;
        this.#isAckDue = true;
      }
      if (now >= this.#lastHeardAt + QUIET_S && !this.#isQuiet) {
        this.#isQuiet = true;
        actions.push({ type: "quiet" });
      }
    }
    if (this.#isAckDue && now >= this.#lastAckAt + ACK_INTERVAL_S) {
      this.#isAckDue = false;
      this.#lastAckAt = now;
      actions.push({ type: "ack", datagram: encodeAck(this.#ack(now)) });
    }
    return actions;
  }

  #begin(now) {
    if (this.#startedAt === null) this.#startedAt = this.#lastHeardAt = now;
  }

  #heard(now) {
    this.#lastHeardAt = now;
    this.#numPings = 0;
    this.#isQuiet = false;
  }

  #count(number, now) {
    if (number > this.#newest) {
      const by = BigInt(Math.min(number - this.#newest, NUMBERS_REMEMBERED));
      this.#seen = BigInt.asUintN(NUMBERS_REMEMBERED, (this.#seen << by) | 1n);
      this.#newest = number;
      this.#newestAt = now;
      this.#renderedAt = null;
      this.#numReceived++;
    } else if (number > 0 && this.#newest - number < NUMBERS_REMEMBERED) {
      const bit = 1n << BigInt(this.#newest - number);
      if (!(this.#seen & bit)) this.#numReceived++;
      this.#seen |= bit;
    }
  }

  #takeEnd({ digest, pieces }) {
    if (digest === null) return;
    const last = pieces[pieces.length - 1];
    const cursor = last.start + last.data.length;
    const known = this.#end;
    const isOther = known && (known.cursor !== cursor || !isSame(known.digest, digest));
    if (isOther || cursor < this.have) throw new ProtocolViolation("the answer ends in two places");
    this.#end = { cursor, digest };
  }

  #took(pieces, now) {
    // With all of it here there is nothing to compare any more; the log's bytes may go.
    const actions = this.isComplete ? [] : this.#take(pieces);
    this.#isAckDue = true;
    // Who shows text at once says so before the acknowledgement is built.
    const isNew = actions.length > 0;
    actions.push(...this.#complete());
    if (!isNew) actions.push(...this.expire(now));
    return actions;
  }

  #take(pieces) {
    const before = this.have;
    for (const piece of pieces) this.#add(piece);
    while (this.#waiting.size > 0) {
      const start = Math.min(...this.#waiting.keys());
      if (start > this.have) break;
      const data = this.#waiting.get(start);
      this.#waiting.delete(start);
      this.#waitingBytes -= data.length;
      this.#add({ start, data });
    }
    if (this.have === before) return [];
    if (this.#end !== null && this.have > this.#end.cursor) {
      throw new ProtocolViolation("the answer goes on past its end");
    }
    const start = this.shown;
    this.#findShown();
    this.#awaitsRender = true;
    return [{ type: "render", start, records: this.#log.view(start, this.shown).slice() }];
  }

  #add({ start, data }) {
    if (start > this.have) {
      this.#keepWaiting(start, data);
      return;
    }
    const overlap = Math.min(this.have - start, data.length);
    if (!isSame(this.#log.view(start, start + overlap), data.subarray(0, overlap))) {
      throw new ProtocolViolation("a datagram contradicts an earlier one");
    }
    const gained = data.subarray(overlap);
    this.#log.append(gained);
    this.#hash.update(gained);
    this.have += gained.length;
  }

  #keepWaiting(start, data) {
    const grown = data.length - (this.#waiting.get(start)?.length ?? 0);
    if (grown > 0 && this.#waitingBytes + grown <= MAX_WAITING_BYTES) {
      this.#waiting.set(start, data.slice());
      this.#waitingBytes += grown;
    }
  }

  /** Move to the cursor after the last whole record. */
  #findShown() {
    const log = this.#log.view();
    let position = this.shown;
    for (;;) {
      let size = 0;
      let shift = 0;
      let start = position;
      for (; start < log.length; start++, shift += 7) {
        size += (log[start] & 0x7f) * 2 ** shift;
        if (log[start] < 0x80) break;
      }
      if (start === log.length) break;
      if (shift > 21) throw new ProtocolViolation("malformed record length in token log");
      if (start + 1 + size > log.length) break;
      position = start + 1 + size;
    }
    this.shown = position;
  }

  #complete() {
    if (this.#end === null || this.isComplete || this.have < this.#end.cursor) return [];
    if (!isSame(this.#hash.digest().subarray(0, DIGEST_BYTES), this.#end.digest)) {
      throw new ProtocolViolation("the answer's digest is wrong");
    }
    if (this.shown !== this.have) throw new ProtocolViolation("the answer ends inside a record");
    this.isComplete = true;
    this.#log = new Bytes();
    return [{ type: "complete" }];
  }

  #ack(now) {
    const startedAt = this.#startedAt ?? now;
    const newestAt = this.#newestAt ?? now;
    return {
      stream: this.#stream,
      have: this.have,
      newest: this.#newest,
      numReceived: this.#numReceived,
      receivedUs: micros(newestAt - startedAt),
      heldUs: micros(now - newestAt),
      renderedUs: this.#renderedAt === null ? null : micros(this.#renderedAt - newestAt),
      hasGap: this.#waiting.size > 0,
      isComplete: this.isComplete,
    };
  }
}

function micros(seconds) {
  return Math.max(0, Math.round(seconds * 1e6));
}

function isSame(one, other) {
  return one.length === other.length && one.every((byte, index) => byte === other[index]);
}
