/** A gateway whose sessions open, and answer no request but that for the answer "begun". */

import { encodeMessage } from "../../client/web/bytes.js";

export const sessions = [];

globalThis.WebTransport = class {
  ready = Promise.resolve();
  closed = new Promise(() => {});
  isClosed = false;
  incomingUnidirectionalStreams = new ReadableStream();

  constructor() {
    const readable = new ReadableStream({ start: (control) => (this.says = (data) => control.enqueue(data)) });
    this.datagrams = { readable, writable: new WritableStream() };
    sessions.push(this);
  }

  async createBidirectionalStream() {
    let answers;
    const readable = new ReadableStream({ start: (control) => (answers = control) });
    const writable = new WritableStream({
      write(data) {
        if (!new TextDecoder().decode(data).includes("/v1/streams/begun?")) return;
        answers.enqueue(encodeMessage({ type: "answer", status: 200, headers: [], is_carried: true }));
      },
    });
    return { readable, writable };
  }

  close() {
    this.isClosed = true;
  }
};

const offer = { version: 1, url: "https://127.0.0.1:1/", is_public: true, certificate_hashes: [] };

/** What `Records` asks; `isOffered` says whether sessions are to be had. */
export const gateway = {
  baseUrl: "http://127.0.0.1:1",
  headers: {},
  isOffered: true,
  async fetch() {
    if (!this.isOffered) throw new TypeError("the path is dark");
    return { ok: true, status: 200, json: async () => offer };
  },
};
