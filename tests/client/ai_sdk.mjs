// Reads an answer through docs/examples/ai_sdk_transport.js, as the SDK would: the parts of a whole
// one; of one that is stopped; of one whose stream is left; of one that is resumed.
// node ai_sdk.mjs BASE_URL [AI_SDK]

import { HeadstartTransport } from "./ai_sdk_transport.js";
import { Headstart } from "headstart-client";

const [baseUrl, sdk] = process.argv.slice(2);
const client = new Headstart({ baseUrl });
const kept = new Map();
const storage = {
  getItem: (key) => kept.get(key) ?? null,
  setItem: (key, value) => kept.set(key, value),
  removeItem: (key) => kept.delete(key),
};
const transport = new HeadstartTransport(client, "fake", storage);
const messages = [{ id: "1", role: "user", parts: [{ type: "text", text: "Name three colours." }] }];
const ask = (chatId, abortSignal) =>
  transport.sendMessages({ trigger: "submit-message", chatId, messages, abortSignal });

async function all(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

const whole = await all(await ask("a"));
const isForgotten = (await transport.reconnectToStream({ chatId: "a" })) === null;

const stopping = new AbortController();
const stopped = [];
for await (const part of await ask("b", stopping.signal)) {
  stopped.push(part);
  if (stopped.length === 5) stopping.abort();
}

const leaving = await ask("e");
await leaving.cancel();
const isLeftForgotten = (await transport.reconnectToStream({ chatId: "e" })) === null;

// A page that is reloaded drops everything but what is stored.
const left = (await ask("c")).getReader();
for (let count = 0; count < 5; count++) await left.read();
const again = new HeadstartTransport(new Headstart({ baseUrl }), "fake", storage);
const id = kept.get("headstart.answer.c");
const resumed = await all(await again.reconnectToStream({ chatId: "c" }));

let message = null;
if (sdk) {
  const { readUIMessageStream } = await import(sdk);
  for await (message of readUIMessageStream({ stream: await ask("d") }));
}
console.log(JSON.stringify({ whole, isForgotten, isLeftForgotten, stopped, resumed, id, message }));
process.exit(0);
