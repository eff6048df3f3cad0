/**
 * Which way an answer is read, and what is done when that way fails:
 * `headstart.stages.carrier_ladder`, step for step. Calls return `{type: "open", rung, after}`,
 * `{type: "close", rung}`, `{type: "watch", rung}` (call `available` once it could be opened) and
 * `{type: "give up"}`.
 */

export const DATAGRAMS = "datagrams";
export const SSE = "sse";
export const POLL = "poll";

const DATAGRAM_TRIES = 3;
const FORGIVEN_S = 5;

/** How patient a client is; headstart.d.ts says what each is. */
const LIMITS = { raceS: 0.3, resumeS: 60, minRetryS: 0.1, maxRetryS: 2 };

export class Ladder {
  /** Up to which some rung has delivered. */
  cursor;
  #limits;
  #hasDatagrams;
  #open = new Set([SSE]);
  #reliable = SSE;
  #raceUntil = null;
  #hasSession = false;
  #isClimbing = false;
  #isQuiet = false;
  #numDatagramFailures = 0;
  #deliveringSince = null;
  #goal = null;
  #retryAt = null;
  #numFailures = 0;
  #numQuiet = 0;
  #lostSince = null;
  #isOver = false;

  constructor(hasDatagrams, limits = {}, cursor = 0) {
    this.#hasDatagrams = hasDatagrams;
    this.#limits = { ...LIMITS, ...limits };
    this.cursor = cursor;
  }

  /** What is open. */
  get rungs() {
    return [...this.#open].sort();
  }

  isOpen(rung) {
    return this.#open.has(rung);
  }

  /** Begin: the answer has a name, and its event stream is open. */
  start() {
    return this.#startDatagrams();
  }

  /** The other end has answered on a rung. */
  opened(rung) {
    if (!this.#counts(rung)) return [];
    this.#lostSince = null;
    this.#hasSession ||= rung === DATAGRAMS;
    return [];
  }

  /** A rung has delivered the log up to a cursor. */
  advanced(rung, cursor, now) {
    if (!this.#counts(rung)) return [];
    this.cursor = Math.max(this.cursor, cursor);
    this.#numFailures = this.#numQuiet = 0;
    this.#lostSince = null;
    if (rung !== DATAGRAMS) {
      const isRace = this.#open.has(DATAGRAMS) && !this.#isClimbing;
      if (isRace && this.#raceUntil === null) {
        this.#raceUntil = now + this.#limits.raceS;
      }
      return [];
    }
    this.#hasSession = true;
    this.#isQuiet = false;
    this.#deliveringSince ??= now;
    if (now >= this.#deliveringSince + FORGIVEN_S) this.#numDatagramFailures = 0;
    this.#goal ??= this.cursor;
    if (cursor < this.#goal) return [];
    this.#raceUntil = this.#retryAt = null;
    this.#isClimbing = false;
    return this.#close([SSE, POLL]);
  }

  /** A rung that "watch" has asked about could be opened: beside the event stream, unhurried. */
  available() {
    if (this.#isOver || this.#open.size === 0) return [];
    const actions = this.#startDatagrams();
    this.#isClimbing ||= actions.length > 0;
    return actions;
  }

  /** Nothing has come on an open rung for too long, not even a heartbeat. */
  quiet(rung, now) {
    if (!this.#counts(rung)) return [];
    if (rung === DATAGRAMS) {
      // Should they come to life again, they climb anew.
      this.#goal = this.#deliveringSince = null;
      this.#isClimbing = this.#isQuiet = true;
      return this.#open.size > 1 ? [] : [this.#opened(this.#reliable)];
    }
    // The first time, the connection is taken for dead; then somebody in between holds events back.
    if (++this.#numQuiet > 1) this.#reliable = POLL;
    return [...this.#close([rung]), ...this.#fail(rung, now)];
  }

  /** A rung is closed, and the answer is not whole. */
  failed(rung, now) {
    if (!this.#counts(rung)) return [];
    this.#open.delete(rung);
    return this.#fail(rung, now);
  }

  /** When the race or the patience ends, or a rung is tried again; null for never. */
  deadline() {
    if (this.#isOver) return null;
    const giveUpAt = this.#lostSince === null ? null : this.#lostSince + this.#limits.resumeS;
    const moments = [this.#raceUntil, this.#retryAt, giveUpAt].filter((at) => at !== null);
    return moments.length > 0 ? Math.min(...moments) : null;
  }

  /** Do what is due. */
  expire(now) {
    if (this.#isOver) return [];
    if (this.#lostSince !== null && now >= this.#lostSince + this.#limits.resumeS) {
      this.#isOver = true;
      return [...this.#close(this.rungs), { type: "give up" }];
    }
    const actions = [];
    if (this.#raceUntil !== null && now >= this.#raceUntil) {
      this.#raceUntil = null;
      if (this.#hasSession) this.#isClimbing = true; // who has answered was close
      else actions.push(...this.#close([DATAGRAMS]), ...this.#fail(DATAGRAMS, now));
    }
    if (this.#retryAt !== null && now >= this.#retryAt) {
      this.#retryAt = null;
      actions.push(this.#opened(this.#reliable), ...this.#startDatagrams());
    }
    return actions;
  }

  /** Events of rungs that are closed already say nothing. */
  #counts(rung) {
    return this.#open.has(rung) && !this.#isOver;
  }

  #fail(rung, now) {
    this.#raceUntil = null; // nobody is left to race
    if (rung === DATAGRAMS) {
      this.#isClimbing = false;
      this.#numDatagramFailures++;
      this.#hasDatagrams &&= this.#numDatagramFailures < DATAGRAM_TRIES;
    }
    const isCarried = this.#open.size > (this.#open.has(DATAGRAMS) && this.#isQuiet ? 1 : 0);
    if (isCarried && rung === DATAGRAMS && this.#hasDatagrams) return [{ type: "watch", rung }];
    if (isCarried || this.#retryAt !== null) return [];
    this.#lostSince ??= now;
    const numBefore = this.#numFailures++;
    const { minRetryS, maxRetryS } = this.#limits;
    const waitS = numBefore ? minRetryS * 2 ** Math.min(numBefore - 1, 16) : 0;
    this.#retryAt = now + Math.min(waitS, maxRetryS);
    return this.expire(now);
  }

  #startDatagrams() {
    return this.#hasDatagrams && !this.#open.has(DATAGRAMS) ? [this.#opened(DATAGRAMS)] : [];
  }

  #opened(rung) {
    this.#open.add(rung);
    if (rung === DATAGRAMS) {
      this.#goal = this.#deliveringSince = null;
      this.#hasSession = this.#isQuiet = false;
    }
    return { type: "open", rung, after: this.cursor };
  }

  #close(rungs) {
    const closing = this.rungs.filter((rung) => rungs.includes(rung));
    for (const rung of closing) this.#open.delete(rung);
    return closing.map((rung) => ({ type: "close", rung }));
  }
}
