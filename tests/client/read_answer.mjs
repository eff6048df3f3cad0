// Reads one answer through the module: node read_answer.mjs BASE_URL [OPTIONS [NETWORK]]. Prints, as
// JSON, its chunks, the rungs it came by, and the error that ended it. On the network "breaking",
// bodies of events break off after 700 bytes; on "held", they stand still unless they are polled. The
// option `headers` is the request's own.

import { Headstart } from "../../client/web/headstart.js";

const [baseUrl, options = "{}", network = "good"] = process.argv.slice(2);
const real = globalThis.fetch;

globalThis.fetch = async (url, init) => {
  const response = await real(url, init);
  if (network === "good" || !response.headers.get("content-type")?.startsWith("text/event-stream")) {
    return response;
  }
  const { status, headers } = response;
  if (network === "held") {
    if (url.includes("wait=")) return response;
    await response.body.cancel();
    return new Response(new ReadableStream({}), { status, headers });
  }
  let left = 700;
  const cut = new TransformStream({
    transform(part, controller) {
      if (left > 0) controller.enqueue(part.subarray(0, left));
      left -= part.length;
      if (left <= 0) controller.error(new TypeError("the connection broke"));
    },
  });
  return new Response(response.body.pipeThrough(cut), { status, headers });
};

const { headers, ...ofClient } = JSON.parse(options);
const client = new Headstart({ baseUrl, ...ofClient });
const body = { model: "fake", messages: [{ role: "user", content: "Name three colours." }] };
const chunks = [];
const rungs = new Set();
let failure = null;
let id = null;
try {
  const answer = await client.chat.completions.create({ ...body, stream: true }, { headers });
  id = answer.id;
  for await (const chunk of answer) {
    chunks.push(chunk);
    for (const rung of answer.rungs) rungs.add(rung);
  }
} catch (error) {
  failure = error.name;
}
console.log(JSON.stringify({ id, chunks, rungs: [...rungs], failure }));
process.exit(0);
