/** Prompts that are sent as they are typed (docs/live.md); loaded when the first one is begun. */

import { CarrierLost, SilentCarrier } from "./carriers.js";
import { Cancelled, ClientError, EngineLost, EngineUnavailable, errorOf } from "./errors.js";
import { Signal, TookTooLong, now, sleep, within } from "./waiting.js";

/** Edits that may be unconfirmed: a gateway hangs up on who does not read. */
const UNCONFIRMED = 64;
/** Codes of connections that are closed for good. */
const FINAL = [4001, 4002, 4003];
const RESUME_S = 55;
const RETRY_S = [0.1, 2];
const EDITED = /^input_text\.(appended|replaced|cleared)$/;
/** Fields of requests whose answers are more than text: they are read from the stream alone. */
const MORE_THAN_TEXT = ["logprobs", "return_token_ids", "stream_options"];
const STATUS = {
  AuthenticationError: 401, PermissionDeniedError: 403, NotFoundError: 404, RateLimitError: 429,
  InternalServerError: 500, ServiceUnavailableError: 503,
};
const refusal = (error) => errorOf(STATUS[error.type] ?? 400, JSON.stringify({ error }));
const STILL_THERE = { message: "the answer failed, and its prompt is still there", code: "response_failed" };

/** An edit or a commit that cannot be taken; `code` says why. */
export class LiveRefused extends ClientError {
  static type = "LiveRefusedError";

  constructor({ message, param, code }) {
    super(message, param);
    this.code = code;
  }
}

/** `ask` sends a request; `read` reads an answer that `first` begins; `left` is told of the end. */
export async function begin(http, ask, read, options, left) {
  const { model, livemind, instructions, messages, tools, private_cache, ...rest } = options;
  const { onComputed, onEvent, ...sampling } = rest;
  const tell = async (method, path, livemind, session) => (await ask(`/v1/live${path}`, {
    method,
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ session: {
      ...session,
      mode: "lossless",
      ...(livemind && { mode: "livemind", livemind: { show_thoughts: !!onEvent, ...livemind } }),
    } }),
  }, null)).json();
  const { id } = await tell("POST", "", livemind,
    { model, instructions, messages, tools, private_cache, sampling });
  const isText = !tools?.length && !MORE_THAN_TEXT.some((name) => sampling[name]);
  const prompt = new LivePrompt(id, { http, read, isText, tell, left, onComputed, onEvent });
  await prompt.open();
  return prompt;
}

class LivePrompt {
  /** What is typed; after a refusal, what the gateway has. */
  text = "";
  #own;
  #socket = null;
  #isOpen = false;
  #opening = new Signal();
  #failure = null;
  /** What the gateway has. */
  #version = 0;
  #confirmed = "";
  #computed = { version: 0, promptTokens: 0, stableTokens: 0, warmTokens: 0 };
  /** Edits and commits in order; the first so many are sent. */
  #waiting = [];
  #numSent = 0;
  #numSaid = 0;
  /** The latest answer's id, whether it is being made, and its events that nobody has taken. */
  #answer = "";
  #isAnswering = false;
  #feed = null;

  constructor(id, own) {
    this.id = id;
    this.#own = own;
  }

  /** Edits that the gateway has. */
  get version() {
    return this.#version;
  }

  append(text) {
    return this.replace(Infinity, Infinity, text);
  }

  /** Put text in the place of the code points from `start` up to `end`. */
  replace(start, end, text) {
    const whole = text.toWellFormed?.() ?? text;
    if (start === Infinity) return this.#edit("append", { text: whole }, this.text + whole);
    const had = [...this.text];
    const after = had.slice(0, start).join("") + whole + had.slice(end).join("");
    return this.#edit("replace", { start, end, text: whole }, after);
  }

  clear() {
    return this.#edit("clear", {}, "");
  }

  /** Make the text this one, by one edit of what differs. */
  set(text) {
    const had = [...this.text];
    const has = [...text];
    const least = Math.min(had.length, has.length);
    let start = 0;
    while (start < least && had[start] === has[start]) start++;
    let kept = 0;
    while (kept < least - start && had.at(-1 - kept) === has.at(-1 - kept)) kept++;
    if (had.length === has.length && start === least) return Promise.resolve();
    const put = has.slice(start, has.length - kept).join("");
    return start === had.length ? this.append(put) : this.replace(start, had.length - kept, put);
  }

  /** How much the gateway says is computed. */
  async computed() {
    if (this.#failure !== null) throw this.#failure;
    return this.#computed;
  }

  /** Have the text thought about as `livemind` says; null stops that. */
  think(livemind) {
    return this.#own.tell("PATCH", `/${this.id}`, livemind);
  }

  /** Send the text off; resolves to an `Answer`. What is typed now is sent when that is over. */
  commit() {
    return this.#put({ type: "input_text.commit" }, "");
  }

  /** End the session, which the gateway then forgets. */
  async close() {
    if (this.#failure !== null) return;
    if (this.#isOpen) this.#send({ type: "session.close" });
    this.#fail(new Cancelled("the live prompt was closed"));
  }

  /** Connect anew: the network is another one. */
  reconnect() {
    this.#socket?.close();
  }

  /** Connect; later losses are mended without a word. */
  async open() {
    this.#stayConnected();
    await this.#opening.wait(this.#own.http.quietS);
    if (this.#isOpen) return;
    this.#fail(this.#failure ?? new EngineUnavailable("no WebSocket to the gateway can be opened"));
    throw this.#failure;
  }

  #edit(kind, fields, after) {
    return this.#put({ type: `input_text.${kind}`, ...fields }, after);
  }

  #put(event, after) {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    this.text = after;
    return new Promise((resolve, reject) => {
      this.#waiting.push({ event, after, resolve, reject });
      this.#flush();
    });
  }

  /** Send what waits: each says which version it is about, so that none outlives a refusal. */
  #flush() {
    if (!this.#isOpen || this.#isAnswering) return;
    while (this.#numSent < Math.min(this.#waiting.length, UNCONFIRMED) && !this.#isCommitting) {
      const { event } = this.#waiting[this.#numSent];
      event.event_id = String(++this.#numSaid);
      this.#send({ ...event, version: this.#version + this.#numSent++ });
    }
  }

  get #isCommitting() {
    return this.#numSent > 0 && isCommit(this.#waiting[this.#numSent - 1]);
  }

  #send(event) {
    this.#socket.send(JSON.stringify(event));
  }

  async #stayConnected() {
    let waitS = RETRY_S[0];
    for (let lostAt = -Infinity; ; ) {
      const code = await this.#connection();
      if (this.#isOpen) [lostAt, waitS] = [now(), RETRY_S[0]];
      this.#isOpen = false;
      this.#opening.set();
      this.#feed?.end(new CarrierLost());
      if (FINAL.includes(code)) this.#fail(new EngineLost("the gateway has ended this live prompt"));
      if (now() - lostAt > RESUME_S) this.#fail(new EngineLost("nobody answers at the gateway"));
      if (this.#failure !== null) return;
      await sleep(waitS);
      waitS = Math.min(2 * waitS, RETRY_S[1]);
    }
  }

  /** Have one connection; resolves to the code with which it was closed. */
  #connection() {
    // An answer may have begun, or ended, without our knowing.
    const mayHave = this.#isAnswering || this.#isCommitting;
    const query = new URLSearchParams({ session: this.id, ...(mayHave && { after: 0 }) });
    const key = this.#own.http.headers.authorization?.slice("Bearer ".length);
    const socket = new WebSocket(
      `${this.#own.http.baseUrl.replace(/^http/, "ws")}/v1/realtime?${query}`,
      key ? ["realtime", `openai-insecure-api-key.${key}`] : ["realtime"],
    );
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    return new Promise((resolve) => (socket.onclose = ({ code }) => resolve(code)));
  }

  #take(event) {
    const { type } = event;
    if (type === "session.resumed") this.#resume(event.session);
    else if (EDITED.test(type)) this.#confirm(event.version);
    else if (type === "input_text.computed") this.#tell(event);
    else if (type === "error") this.#refuse(event.error);
    else if (type === "response.created") this.#begin(event.response.id);
    else if (type.startsWith("response.")) this.#feed?.take(event);
    if (type === "response.done") this.#settle(event);
    this.#own.onEvent?.(event);
  }

  /** Another connection: what the gateway has is confirmed, the rest is sent again. */
  #resume({ version }) {
    while (this.#version < version && this.#numSent > 0 && !isCommit(this.#waiting[0])) {
      this.#confirm(this.#version + 1);
    }
    this.#version = version;
    this.#numSent = 0;
    this.#isOpen = true;
    this.#opening.set();
    this.#flush();
  }

  #confirm(version) {
    this.#version = version;
    this.#numSent--;
    const { after, resolve } = this.#waiting.shift();
    this.#confirmed = after;
    resolve();
    this.#flush();
  }

  /** What waits behind a refusal goes with it. */
  #refuse(told) {
    const at = this.#waiting.findIndex(({ event }) => event.event_id === told.event_id);
    if (at < 0 || told.event_id === null) return;
    const isOurs = told.type === "LiveRefusedError";
    this.#drop(at, isOurs ? new LiveRefused(told) : refusal(told));
  }

  #drop(at, error) {
    for (const { reject } of this.#waiting.splice(at)) reject(error);
    this.#numSent = Math.min(this.#numSent, at);
    this.text = this.#waiting.at(-1)?.after ?? this.#confirmed;
  }

  #tell({ version, prompt_tokens, stable_tokens, warm_tokens }) {
    this.#computed = {
      version, promptTokens: prompt_tokens, stableTokens: stable_tokens, warmTokens: warm_tokens,
    };
    this.#own.onComputed?.(this.#computed);
  }

  /** An answer has begun, ours if we do not know it. */
  #begin(id) {
    if (id === this.#answer || !this.#waiting.slice(0, 1).some(isCommit)) return;
    this.#answer = id;
    this.#isAnswering = true;
    this.#numSent--;
    const { resolve } = this.#waiting.shift();
    const feed = (this.#feed = new Feed(id, this.#own.http.quietS));
    const first = this.#own.isText ? (signal) => feed.events(signal) : null;
    resolve(this.#own.read({ id, cursor: 0, before: 0 }, first));
  }

  /** The answer is over: the conversation goes on, or the text is still there. */
  #settle({ version, num_chars }) {
    if (!this.#isAnswering) return;
    this.#isAnswering = false;
    this.#version = version;
    if (num_chars === 0) this.#confirmed = "";
    else this.#drop(0, new LiveRefused(STILL_THERE));
    this.#flush();
  }

  #fail(error) {
    if (this.#failure !== null) return;
    this.#failure = error;
    this.#own.left(this);
    this.#socket?.close();
    this.#feed?.end(new CarrierLost());
    this.#drop(0, error);
  }
}

const isCommit = ({ event }) => event.type === "input_text.commit";

/** An answer's events of the WebSocket, as a carrier's. */
class Feed {
  #id;
  #quietS;
  #came = new Signal();
  #events = [];
  #error = null;

  constructor(id, quietS) {
    this.#id = id;
    this.#quietS = quietS;
  }

  take({ type, delta, output_index: index, cursor, response }) {
    if (this.#error !== null) return;
    if (type.endsWith("_text.delta")) {
      const channel = type === "response.output_text.delta" ? "content" : "reasoning";
      this.#events.push({ cursor, chunk: this.#chunk(index, { [channel]: delta }, null) });
    } else if (type === "response.done") {
      const { status, error, finish_reasons: reasons = [] } = response;
      if (status === "completed") {
        for (const [number, reason] of reasons.entries()) {
          this.#events.push({ cursor: null, chunk: this.#chunk(number, {}, reason) });
        }
        this.#events.push({ cursor: null, isDone: true });
      } else {
        const failure = error ? refusal(error) : new Cancelled("somebody stopped the answer");
        this.#events.push({ cursor: null, error: failure });
      }
    }
    this.#came.set();
  }

  end(error) {
    this.#error ??= error;
    this.#came.set();
  }

  async *events(signal) {
    signal.addEventListener("abort", () => this.#came.set(), { once: true });
    yield [];
    while (!signal.aborted) {
      if (this.#events.length > 0) yield this.#events.splice(0);
      else if (this.#error !== null) throw this.#error;
      else await this.#more();
    }
  }

  async #more() {
    try {
      await within(this.#came.wait(), this.#quietS);
    } catch (error) {
      throw error instanceof TookTooLong ? new SilentCarrier() : error;
    }
  }

  #chunk(index, delta, finish_reason) {
    const choices = [{ index, delta, logprobs: null, finish_reason }];
    return { id: this.#id, object: "chat.completion.chunk", created: 0, model: "", choices };
  }
}
