/**
 * Events of an answer, from an event stream's bytes or from records of its token log:
 * `{cursor, chunk}`, `{cursor, isDone}` or `{cursor, error}`. `cursor` is null for what is not in the
 * log: the error that ends a broken answer.
 */

import { Reader } from "./bytes.js";
import { ProtocolViolation, errorIn } from "./errors.js";

const DONE = "[DONE]";
const FORMAT_VERSION = 2;
const CONTENT = 0;
const REASONING = 1;
const OBJECTS = { chat: "chat.completion.chunk", completion: "text_completion" };

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** What a payload says. */
function eventOf(cursor, payload) {
  if (payload === DONE) return { cursor, isDone: true };
  let chunk;
  try {
    chunk = JSON.parse(payload);
  } catch {
    return { cursor, error: new ProtocolViolation("a chunk that is no JSON") };
  }
  const error = errorIn(chunk);
  return error === null ? { cursor, chunk } : { cursor, error };
}

/** Cuts an event stream into events, wherever its bytes are cut, inside of characters too. */
export class EventSplitter {
  #decoder = new TextDecoder();
  #rest = "";

  feed(data) {
    const blocks = (this.#rest + this.#decoder.decode(data, { stream: true })).split("\n\n");
    this.#rest = blocks.pop();
    return blocks.map(readBlock).filter((event) => event !== null);
  }
}

function readBlock(block) {
  let cursor = null;
  const parts = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("data: ")) parts.push(line.slice(6));
    else if (line.startsWith("id: ")) cursor = Number(line.slice(4));
  }
  return parts.length > 0 ? eventOf(cursor, parts.join("\n")) : null; // else it was a comment
}

/** Turns the records of one log, in order from its header on, into events. */
export class RecordProjector {
  #header = null;
  #cursor = 0;

  /** Take the next whole records. */
  feed(records) {
    const events = [];
    const reader = new Reader(records);
    while (!reader.isDone) {
      const size = reader.varint();
      const stop = reader.position + size;
      const record = read(reader);
      if (reader.position !== stop) throw new ProtocolViolation("not a record of a token log");
      if (this.#header === null) this.#header = headerOf(record);
      else events.push(this.#project(this.#cursor + stop, record));
    }
    this.#cursor += records.length;
    return events;
  }

  #project(cursor, [choice, channel, text, , , payload]) {
    if (payload !== null) return eventOf(cursor, utf8.decode(payload));
    const { api, id, created, model } = this.#header;
    const none = { logprobs: null, finish_reason: null };
    let said;
    if (api === "chat" && (channel === CONTENT || channel === REASONING)) {
      const delta = channel === CONTENT ? { content: text } : { reasoning: text };
      said = { index: choice, delta, ...none, token_ids: null };
    } else if (api === "completion" && channel === CONTENT) {
      const ids = { prompt_token_ids: null, token_ids: null };
      said = { index: choice, text, ...none, stop_reason: null, ...ids };
    } else {
      throw new ProtocolViolation(`no chunk for channel ${channel} of the API "${api}"`);
    }
    return { cursor, chunk: { id, object: OBJECTS[api], created, model, choices: [said] } };
  }
}

function read(reader) {
  let record;
  try {
    record = reader.value();
  } catch {
    record = null;
  }
  if (!Array.isArray(record)) throw new ProtocolViolation("not a record of a token log");
  return record;
}

function headerOf([status, type, api, id, model, created, version]) {
  if (version !== FORMAT_VERSION) throw new ProtocolViolation("a token log of another format");
  if (status !== 200 || !String(type).startsWith("text/event-stream")) {
    throw new ProtocolViolation("not the log of a streamed answer");
  }
  return { api, id, model, created };
}
