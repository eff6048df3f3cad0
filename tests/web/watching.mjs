/** Answers whose gateway offers no session, for good or for now; prints who waits to ask again. */

import { Headstart } from "../../client/web/headstart.js";

const RETRY_MS = 30_000;
const waiting = new Set();
const { setTimeout, clearTimeout } = globalThis;
globalThis.setTimeout = (work, ms) => {
  const timer = setTimeout(work, ms);
  if (ms === RETRY_MS) waiting.add(timer);
  return timer;
};
globalThis.clearTimeout = (timer) => {
  waiting.delete(timer);
  clearTimeout(timer);
};
const soon = () => new Promise((resolve) => setTimeout(resolve, 50));

globalThis.WebTransport = class {};
let transport = 404;
globalThis.fetch = async (url) => {
  if (url.endsWith("/v1/transport")) return new Response("", { status: transport });
  if (!url.endsWith("/completions")) return new Response("{}");
  const body = new ReadableStream({
    start: (control) => control.enqueue(new TextEncoder().encode('id: 9\ndata: {"choices":[]}\n\n')),
  });
  const headers = { "x-headstart-stream": "a", "content-type": "text/event-stream" };
  return new Response(body, { headers });
};

async function begun() {
  const client = new Headstart({ baseUrl: "http://127.0.0.1:1" });
  const answer = await client.completions.create({ model: "a", prompt: "b", stream: true });
  const chunks = answer[Symbol.asyncIterator]();
  await chunks.next();
  chunks.next();
  await soon();
  return answer;
}

const found = {};
await begun();
found["none offered"] = waiting.size;

waiting.clear();
transport = 503;
const answer = await begun();
found["none now"] = waiting.size;
answer.leave();
await soon();
found.left = waiting.size;
console.log(JSON.stringify(found));
process.exit(0);
