// Types prompts through the module: node type_live.mjs BASE_URL SCENARIO [OPTIONS]. Prints, as JSON,
// what came of it.

import { Headstart } from "../../client/web/headstart.js";

const [baseUrl, scenario, options = "{}"] = process.argv.slice(2);
const RealSocket = globalThis.WebSocket;
const sockets = [];
globalThis.WebSocket = class extends RealSocket {
  constructor(...given) {
    super(...given);
    sockets.push(this);
  }
};

/** What became of a promise. */
async function told(promise) {
  try {
    return { value: (await promise) ?? null };
  } catch (error) {
    return { name: error.name, type: error.type, status: error.status, code: error.code };
  }
}

async function read(answer) {
  const found = { id: answer.id, text: "", ends: [], rungs: new Set() };
  for await (const chunk of answer) {
    const [{ delta, finish_reason: end }] = chunk.choices;
    found.text += delta.content ?? "";
    if (end !== null) found.ends.push(end);
    for (const rung of answer.rungs) found.rungs.add(rung);
  }
  return { ...found, rungs: [...found.rungs], position: answer.position };
}

/** Wait until the gateway has computed so much. */
function untilWarm(seen, numTokens) {
  return new Promise((resolve) => {
    seen.notify = () => seen.some(({ warmTokens }) => warmTokens >= numTokens) && resolve();
    seen.notify();
  });
}

/** Close the connection while it is in use. */
async function cut() {
  do await new Promise((resolve) => setTimeout(resolve, 1));
  while (sockets.at(-1).readyState !== WebSocket.OPEN);
  sockets.at(-1).close();
}

/** What somebody else does to a prompt, by HTTP. */
async function fromElsewhere(method, { id }, body, path = "") {
  const told = { method, headers: { "content-type": "application/json" } };
  const response = await fetch(`${baseUrl}/v1/live/${id}${path}`, {
    ...told,
    ...(body && { body: JSON.stringify(body) }),
  });
  if (!response.ok) throw new Error(await response.text());
  return response.text();
}

const typing = (...texts) => ({
  edits: texts.map((text) => ({ type: "input_text.append", text })),
});

/** What the gateway has. */
async function kept(prompt) {
  const { text, version } = JSON.parse(await fromElsewhere("GET", prompt, null, "?text=1"));
  return { text, version };
}

const events = [];
const heard = ({ type }) => {
  events.push(type);
  events.notify?.();
};

/** Wait until the module has been told of one more such event. */
async function event(type) {
  while (!events.includes(type)) await new Promise((resolve) => (events.notify = resolve));
  events.splice(0);
}

const seen = [];
const onComputed = (computed) => {
  seen.push(computed);
  seen.notify?.();
};
const client = new Headstart({ baseUrl, ...JSON.parse(options) });
const LONG = Array.from({ length: 200 }, (_, number) => `word${number}`).join(" ") + " ";

const scenarios = {
  async types() {
    const prompt = await client.live({ model: "fake", onComputed, max_tokens: 8 });
    await prompt.append(LONG);
    await prompt.replace(0, 5, "fïrst😀");
    await untilWarm(seen, 192);
    const computed = await prompt.computed();
    await prompt.append("and then 日本");
    await prompt.replace(6, 6, "!");
    const text = prompt.text;
    const answer = await read(await prompt.commit());
    const left = prompt.text;
    prompt.append("And ");
    prompt.append("then?");
    const again = await read(await prompt.commit());
    const { version } = prompt;
    await prompt.close();
    const late = await told(prompt.append("more"));
    return { text, computed, answer, left, again, version, late };
  },

  async thinks() {
    const told = [];
    let wake = null;
    const onEvent = (event) => {
      told.push(event);
      wake?.();
    };
    const heard = async (is) => {
      while (!told.some(is)) await new Promise((resolve) => (wake = resolve));
      return told.splice(0).find(is);
    };
    const isDone = ({ type }) => type === "response.done";
    const prompt = await client.live({ model: "fake", livemind: { at_commit: "wait" }, onEvent });
    await prompt.append("The train leaves at noon. It");
    const { thoughts } = await heard(({ thoughts }) => thoughts?.length > 0);
    await prompt.append(" takes an hour.");
    const answer = await read(await prompt.commit());
    const { computed_ahead: ahead } = await heard(isDone);
    await prompt.think(null);
    await prompt.append("And back? It leaves at two. ");
    await read(await prompt.commit());
    const { computed_ahead: later } = await heard(isDone);
    return { thoughts, ahead, later, answer };
  },

  async sets() {
    const prompt = await client.live({ model: "fake" });
    const texts = ["", "a", "abc", "ac", "abc😀d", "abc😀😀d", "xd", "x", "", "whole other", "\ud83d"];
    const found = [];
    for (const text of texts) {
      await prompt.set(text);
      found.push([prompt.text, prompt.version]);
    }
    return found;
  },

  async refused() {
    const bad = await told(client.live({ model: "none" }));
    const prompt = await client.live({ model: "fake" });
    const empty = await told(prompt.commit());
    await prompt.append("one");
    const outcomes = await Promise.all(
      [prompt.replace(2, 99, "x"), prompt.append("lost"), prompt.commit()].map(told),
    );
    const { text } = prompt;
    await prompt.append(" two");
    const answer = await prompt.commit();
    const early = await told(prompt.append("while it is answered"));
    const { text: said } = await read(answer);
    return { bad, empty, outcomes, text, early, said, left: prompt.text };
  },

  async loses() {
    const prompt = await client.live({ model: "fake" });
    for (let number = 0; number < 300; number++) {
      prompt.append(`${number} `).catch(() => {});
      if (number % 60 === 7) await cut();
    }
    prompt.replace(0, 1, "zero");
    const text = prompt.text;
    const committing = prompt.commit();
    await cut();
    const answer = await committing;
    await cut();
    return { text, numSockets: sockets.length, answer: await read(answer) };
  },

  async shares() {
    const prompt = await client.live({ model: "fake", onEvent: heard });
    await prompt.append("abc");
    await fromElsewhere("PATCH", prompt, typing("d"));
    const outcomes = [await told(prompt.append("e")), await told(prompt.append("f"))];
    const found = [[...outcomes, prompt.text, prompt.version, await kept(prompt)]];
    events.splice(0);
    await fromElsewhere("PATCH", prompt, typing("😀", "g"));
    await event("input_text.changed");
    found.push([prompt.text, prompt.version, await kept(prompt)]);
    await prompt.set(`${prompt.text}h`);
    found.push([prompt.text, prompt.version, await kept(prompt)]);
    const answer = await read(await prompt.commit());
    return { found, answer: answer.text };
  },

  async collides() {
    const prompt = await client.live({ model: "fake" });
    await prompt.append("abc");
    const taken = sockets.at(-1).onmessage;
    const late = [];
    sockets.at(-1).onmessage = (message) => late.push(message);
    await fromElsewhere("PATCH", prompt, typing("d"));
    // Told of nothing, it says of the second that it is about the version that "d" has made.
    const typed = ["e", "f", "g"].map((text) => told(prompt.append(text)));
    while (late.length < 4) await new Promise((resolve) => setTimeout(resolve, 1));
    sockets.at(-1).onmessage = taken;
    late.forEach(taken);
    const outcomes = await Promise.all(typed);
    const next = await told(prompt.append("h"));
    return { outcomes, next, text: prompt.text, version: prompt.version, kept: await kept(prompt) };
  },

  async returns() {
    const prompt = await client.live({ model: "fake" });
    await prompt.append("abc");
    sockets.at(-1).onmessage = () => {};
    const unheard = told(prompt.append("d"));
    while ((await kept(prompt)).version < 2) await new Promise((resolve) => setTimeout(resolve, 1));
    await cut();
    const found = [[await unheard, prompt.text, prompt.version, await kept(prompt)]];
    sockets.at(-1).onmessage = () => {};
    await fromElsewhere("PATCH", prompt, typing("x"));
    const late = told(prompt.append("e"));
    await cut();
    found.push([await late, await told(prompt.append("f")), prompt.text, await kept(prompt)]);
    return found;
  },

  async yields() {
    const prompt = await client.live({ model: "fake", onEvent: heard });
    await prompt.append("Count.");
    const answering = fromElsewhere("POST", prompt, {}, "/commit");
    await event("response.created");
    const early = told(prompt.append(" More."));
    await answering;
    const found = [await early, await told(prompt.append("Next.")), prompt.text, await kept(prompt)];
    return { found, answer: (await read(await prompt.commit())).text };
  },

  async stops() {
    const prompt = await client.live({ model: "fake" });
    const none = await told(prompt.cancel());
    await prompt.append("Count.");
    const reading = told(read(await prompt.commit()));
    const { response } = await prompt.cancel();
    await prompt.append("On.");
    return { none, stopped: await reading, status: response.status, text: prompt.text };
  },

  async ends() {
    const prompt = await client.live({ model: "fake" });
    await prompt.append("some text");
    await fetch(`${baseUrl}/v1/live/${prompt.id}`, { method: "DELETE" });
    const found = await told(prompt.commit());
    return { found, later: await told(prompt.append("more")) };
  },

  async cancels() {
    const prompt = await client.live({ model: "fake" });
    await prompt.append("Count.");
    const answer = await prompt.commit();
    for await (const _ of answer) break;
    for (;;) {
      const { name } = await told(prompt.append("On."));
      if (name === undefined) return { text: prompt.text };
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  },

  async fails() {
    const prompt = await client.live({ model: "fake" });
    await prompt.append(LONG);
    const committing = prompt.commit();
    const waiting = told(prompt.append("meanwhile"));
    const { name: failure } = await told(read(await committing));
    return { failure, meanwhile: await waiting, text: prompt.text };
  },

  async streams() {
    const prompt = await client.live({ model: "fake", logprobs: true, max_tokens: 4 });
    await prompt.append("Name three colours.");
    const models = new Set();
    for await (const { model } of await prompt.commit()) models.add(model);
    return { models: [...models], sockets: sockets.length };
  },

  begins: async () => told(client.live({ model: "fake" })),
};

console.log(JSON.stringify(await scenarios[scenario]()));
process.exit(0);
