/**
 * The rungs over HTTP: an event stream, and one short request after another.
 *
 * `read(http, id, after, before, signal)` yields batches of the events past a cursor; an empty one says
 * that somebody has answered. `before` is the cursor of one event earlier: at the end of a log that
 * alone tells how the answer ended. What comes twice is dropped.
 */

import { EngineLost, errorOf } from "./errors.js";
import { EventSplitter } from "./events.js";
import { TookTooLong, within } from "./waiting.js";

const POLL_S = 10;
const NO_CONTENT = 204;
/** Of a gateway that is starting, or of a proxy before it. */
const MAY_PASS = [408, 425, 429, 500, 502, 503, 504];

/** The connection ended before the answer did, which can be asked for again. */
export class CarrierLost extends Error {}

/** Says that nothing has come for too long, and that who sends is still listened to. */
export const QUIET = Symbol("quiet");

/** Nothing came for too long, though the connection stands. */
export class SilentCarrier extends CarrierLost {}

/** What is asked by HTTP: where, with which headers, and the silence that is borne. */
export class Http {
  constructor(baseUrl, headers, quietS) {
    this.baseUrl = baseUrl;
    this.headers = headers;
    this.quietS = quietS;
  }

  /** With further headers. */
  with(headers) {
    return new Http(this.baseUrl, { ...this.headers, ...headers }, this.quietS);
  }

  fetch(path, options = {}) {
    const headers = { ...this.headers, ...options.headers };
    return fetch(this.baseUrl + path, { ...options, headers });
  }

  /** Ask for the rest of an answer; throws what `CarrierLost` is for, or why it cannot be had. */
  async rest(id, query, signal) {
    const path = `/v1/streams/${encodeURIComponent(id)}?${new URLSearchParams(query)}`;
    let response;
    let body;
    try {
      response = await within(this.fetch(path, { signal }), this.quietS);
      if (response.ok) return response;
      body = await within(response.text(), this.quietS);
    } catch (error) {
      throw lost(error);
    }
    if (MAY_PASS.includes(response.status)) throw new CarrierLost();
    if (response.status === 404) {
      throw new EngineLost(
        "the gateway does not know this answer any more: it was restarted, or the answer has " +
          "expired; ask again",
      );
    }
    throw errorOf(response.status, body);
  }

  /** Yield the events of an event stream that has begun, and let go of it. */
  async *events(response, signal) {
    if (response.status === NO_CONTENT) return;
    const splitter = new EventSplitter();
    const reader = response.body.getReader();
    const leave = () => reader.cancel().catch(() => {});
    const leaveEarly = () => {
      leave();
      this.#connect();
    };
    signal.addEventListener("abort", leaveEarly);
    try {
      for (;;) {
        const { done, value } = await within(reader.read(), this.quietS);
        if (done) return;
        yield splitter.feed(value);
      }
    } catch (error) {
      throw lost(error);
    } finally {
      signal.removeEventListener("abort", leaveEarly);
      leave();
    }
  }

  /** Leaving an HTTP/1.1 response costs its connection: have one for the next question. */
  #connect() {
    fetch(this.baseUrl + "/healthz").then((response) => response.arrayBuffer()).catch(() => {});
  }
}

function lost(error) {
  return error instanceof TookTooLong ? new SilentCarrier() : new CarrierLost(String(error));
}

/** Server-sent events. */
export class EventStream {
  async *read(http, id, after, before, signal) {
    let response = await http.rest(id, { after }, signal);
    if (response.status === NO_CONTENT) response = await http.rest(id, { after: before }, signal);
    yield [];
    yield* http.events(response, signal);
  }
}

/** Requests that each end with what there is. */
export class Polling {
  async *read(http, id, after, before, signal) {
    for (;;) {
      let response = await http.rest(id, { after, wait: POLL_S }, signal);
      if (response.status === NO_CONTENT) {
        response = await http.rest(id, { after: before, wait: 0 }, signal);
        yield* http.events(response, signal);
        return;
      }
      yield [];
      for await (const events of http.events(response, signal)) {
        for (const { cursor } of events) {
          if (cursor !== null) [before, after] = [after, cursor];
        }
        yield events;
        // What is not in the log says why that ends.
        if (events.length > 0 && events[events.length - 1].cursor === null) return;
      }
    }
  }
}
