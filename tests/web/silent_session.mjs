/** Reads by a session whose server never answers; prints what became of it. */

import { Records } from "../../client/web/records.js";
import { CarrierLost } from "../../client/web/carriers.js";

const wait = globalThis.setTimeout;
globalThis.setTimeout = (work) => wait(work, 20); // of so many seconds

let numOpened = 0;
let numClosed = 0;

globalThis.WebTransport = class {
  ready = Promise.resolve();
  closed = new Promise(() => {});
  datagrams = { readable: new ReadableStream(), writable: new WritableStream() };
  incomingUnidirectionalStreams = new ReadableStream();

  constructor() {
    numOpened++;
  }

  async createBidirectionalStream() {
    return { readable: new ReadableStream(), writable: new WritableStream() };
  }

  close() {
    numClosed++;
  }
};

const offer = { version: 1, url: "https://127.0.0.1:1/", is_public: true, certificate_hashes: [] };
const http = {
  baseUrl: "http://127.0.0.1:1",
  headers: {},
  fetch: async () => ({ ok: true, status: 200, json: async () => offer }),
};
const records = new Records(http);
let outcome = "read";
try {
  await records.read(http, "a", 0, 0, new AbortController().signal).next();
} catch (error) {
  outcome = error instanceof CarrierLost ? "lost" : String(error);
}
await records.isUsable();
console.log(`${outcome} ${numClosed} closed, ${numOpened} opened`);
