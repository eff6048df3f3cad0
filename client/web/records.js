/** The rung of datagrams: a session where the gateway offers one, which all answers share. */

import { CarrierLost, QUIET } from "./carriers.js";
import { ProtocolViolation, errorIn } from "./errors.js";
import { RecordProjector } from "./events.js";
import { Session, VERSION } from "./session.js";
import { now, within } from "./waiting.js";

const ASK_S = 5;
const ANSWER_S = 3;
/** After an attempt that failed: networks that block UDP go on doing so. */
const RETRY_S = 30;

export class Records {
  #http;
  #session = null;
  #opening = null;
  #notBefore = -Infinity;

  constructor(http) {
    this.#http = http;
  }

  /** Whether this browser, on this page, can open sessions at all. */
  static get isPossible() {
    return typeof globalThis.WebTransport === "function";
  }

  /** Begin to open a session, if there is none and none was refused a moment ago. */
  prepare() {
    if (this.#isOpen || this.#opening !== null || now() < this.#notBefore) return;
    const isWanted = () => this.#opening === opening;
    const opening = this.#open(isWanted).finally(() => {
      if (isWanted()) this.#opening = null;
    });
    this.#opening = opening;
  }

  /** Whether there is a session, if need be after opening one. */
  async isUsable() {
    this.prepare();
    if (!this.#isOpen) await this.#opening;
    return this.#isOpen;
  }

  /** Whether the gateway offers none. */
  get isNone() {
    return this.#notBefore === Infinity;
  }

  get #isOpen() {
    return this.#session?.closedFor === null && !this.#session.isDoubted;
  }

  /** Leave the session for another: the network has changed. */
  renew() {
    this.close();
    this.#notBefore = -Infinity;
  }

  /** Say of every answer where its reader is. */
  attach() {
    this.#session?.attach();
  }

  close() {
    this.#session?.close();
    this.#session = this.#opening = null;
  }

  /** Read from the answer's beginning; what is not new is dropped. */
  async *read({ headers }, id, after, _before, signal, isClimb) {
    if (!(await this.isUsable()) || signal.aborted) throw new CarrierLost();
    const session = this.#session;
    const why = after === 0 ? "join" : isClimb ? "climb" : "resume";
    const reading = session.resume(id, { ...headers, "x-headstart-why": why });
    const stop = () => {
      session.drop(reading);
      this.#left(session);
    };
    if (!(await within(reading.begun(), ANSWER_S).catch(() => false))) {
      session.isDoubted = true; // QUIC sees late that it is gone; if the path is dark, others read on
      stop();
      throw new CarrierLost();
    }
    signal.addEventListener("abort", stop);
    if (signal.aborted) stop();
    const projector = new RecordProjector();
    try {
      yield [];
      for (;;) {
        const next = await reading.next();
        if (next === null) {
          if (!reading.isQuiet) break;
          yield QUIET; // and listen on: after a blackout nobody is here sooner
          if (!(await reading.heard())) throw new CarrierLost();
          continue;
        }
        const { records, cursor } = next;
        const events = projector.feed(records);
        const shown = () => reading.rendered(cursor);
        if (events.length === 0) shown();
        else events[events.length - 1].shown = shown;
        yield events.map((event) => ({ ...event, isByStream: reading.isByStream }));
      }
      if (reading.isWhole && reading.error !== null) {
        yield [{ cursor: null, error: errorIn({ error: reading.error }) }];
      }
    } catch (error) {
      throw error instanceof ProtocolViolation ? new CarrierLost(error.message) : error;
    } finally {
      signal.removeEventListener("abort", stop);
      stop();
    }
  }

  /** Close what is doubted or has been replaced with its last reader. */
  #left(session) {
    const isOver = session.isDoubted || session !== this.#session;
    if (isOver && !session.isReading) session.close();
  }

  async #open(isWanted) {
    try {
      const response = await within(this.#http.fetch("/v1/transport"), ASK_S);
      if (response.status === 404) this.#notBefore = Infinity; // it offers none
      if (!response.ok) throw new CarrierLost();
      const offer = await within(response.json(), ASK_S);
      if (offer.version !== VERSION) throw new CarrierLost();
      const session = await Session.open(
        addressOf(offer, this.#http.baseUrl),
        offer.certificate_hashes.map(({ algorithm, value }) => ({ algorithm, value: fromBase64(value) })),
        ASK_S,
      );
      const before = this.#session;
      if (isWanted()) this.#session = session;
      else session.close(); // left before it was open
      if (before) this.#left(before);
    } catch {
      if (isWanted()) this.#notBefore = Math.max(this.#notBefore, now() + RETRY_S);
    }
  }
}

/** The address that the gateway announces, or the one that it was asked at. */
export function addressOf(offer, baseUrl) {
  const url = new URL(offer.url);
  if (offer.is_public) return url.href;
  const asked = new URL(baseUrl).hostname;
  const isPinned = offer.certificate_hashes.length > 0;
  if (!isPinned || (isLoopback(url.hostname) && !isLoopback(asked))) url.hostname = asked;
  return url.href;
}

function isLoopback(host) {
  return host === "localhost" || host === "[::1]" || host.startsWith("127.");
}

function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
