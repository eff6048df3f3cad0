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
const EDITED = /\.(appended|replaced|cleared)$/;
/** Fields of requests whose answers are more than text: they are read from the stream alone. */
const MORE_THAN_TEXT = ["logprobs", "return_token_ids", "stream_options"];
const STATUS = {
  AuthenticationError: 401, PermissionDeniedError: 403, NotFoundError: 404, RateLimitError: 429,
  InternalServerError: 500, ServiceUnavailableError: 503,
};
const refusal = (error) => errorOf(STATUS[error.type] ?? 400, JSON.stringify({ error }));
const FAILED = { message: "the answer failed, and its prompt is still there", code: "response_failed" };
const CHANGED = { message: "somebody else has changed the text", code: "version_conflict" };

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
  const tell = async (method, path, session) => (await ask(`/v1/live${path}`, {
    method,
    headers: { "content-type": "application/json" },
    body: session && JSON.stringify({ session }),
  }, null)).json();
  const minded = (livemind) => livemind
    ? { mode: "livemind", livemind: { show_thoughts: !!onEvent, ...livemind } }
    : { mode: "lossless" };
  const { id } = await tell("POST", "",
    { model, instructions, messages, tools, private_cache, sampling, ...minded(livemind) });
  const isText = !tools?.length && !MORE_THAN_TEXT.some((name) => sampling[name]);
  const prompt = new LivePrompt(id, { http, read, isText, tell, minded, left, onComputed, onEvent });
  await prompt.open();
  return prompt;
}

/** Its calls are described in headstart.d.ts. */
class LivePrompt {
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
  #refused = [];
  /** Whether the gateway has to be asked for its text; nothing is sent until then. */
  #isInDoubt = false;
  /** Events are taken one by one. */
  #taking = Promise.resolve();
  /** The latest answer's id, whether it is being made, and where it is ours its events. */
  #answer = "";
  #isAnswering = false;
  #feed = null;

  constructor(id, own) {
    this.id = id;
    this.#own = own;
  }

  get version() {
    return this.#version;
  }

  append(text) {
    return this.replace(Infinity, Infinity, text);
  }

  replace(start, end, text) {
    const whole = text.toWellFormed?.() ?? text;
    if (start === Infinity) return this.#put("append", { text: whole }, this.text + whole);
    const had = [...this.text];
    const after = had.slice(0, start).join("") + whole + had.slice(end).join("");
    return this.#put("replace", { start, end, text: whole }, after);
  }

  clear() {
    return this.#put("clear", {}, "");
  }

  set(text) {
    const had = [...this.text];
    const has = [...text];
    let start = 0;
    while (start < had.length && had[start] === has[start]) start++;
    let [end, stop] = [had.length, has.length];
    while (end > start && stop > start && had[end - 1] === has[stop - 1]) end--, stop--;
    if (end === start && stop === start) return Promise.resolve();
    const put = has.slice(start, stop).join("");
    return start === had.length ? this.append(put) : this.replace(start, end, put);
  }

  async computed() {
    if (this.#failure !== null) throw this.#failure;
    return this.#computed;
  }

  think(livemind) {
    return this.#own.tell("PATCH", `/${this.id}`, this.#own.minded(livemind));
  }

  cancel() {
    return this.#own.tell("POST", `/${this.id}/cancel`);
  }

  commit() {
    return this.#put("commit", {}, "");
  }

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

  #put(kind, fields, after) {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    this.text = after;
    return new Promise((resolve, reject) => {
      this.#waiting.push({ event: { type: `input_text.${kind}`, ...fields }, after, resolve, reject });
      this.#flush();
    });
  }

  /** Send what waits: each says which version it is about, so that none outlives a refusal. */
  #flush() {
    if (!this.#isOpen || this.#isAnswering || this.#isInDoubt) return;
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
    const then = (step) => (this.#taking = this.#taking.then(step).catch(console.error));
    socket.onmessage = ({ data }) => then(() => this.#take(JSON.parse(data)));
    return new Promise((resolve) => (socket.onclose = ({ code }) => then(() => resolve(code))));
  }

  async #take(event) {
    const { type } = event;
    if (type === "session.resumed") await this.#resume(event.session);
    else if (EDITED.test(type)) this.#confirm();
    else if (type === "input_text.changed") this.#doubt(event.version);
    else if (type === "input_text.computed") this.#tell(event);
    else if (type === "error") this.#refuse(event.error);
    else if (type === "response.created") this.#begin(event.response.id);
    else if (type.startsWith("response.")) this.#feed?.take(event);
    if (type === "response.done") this.#settle(event);
    // Of what is sent, some may be made by chance of its version.
    if (this.#isInDoubt && this.#numSent === 0) await this.#look();
    this.#flush();
    this.#own.onEvent?.(event);
  }

  /** Another connection, which says nothing of what the last was sent. */
  async #resume({ version }) {
    this.#isOpen = true;
    this.#opening.set();
    if (this.#isInDoubt) this.#numSent = 0; // that was refused, or will have been
    if (!this.#isAnswering) this.#doubt(version);
    if (this.#isInDoubt) await this.#look();
    else this.#numSent = 0;
  }

  #doubt(version) {
    this.#isInDoubt ||= version > this.#version;
  }

  /** Ask what the gateway has: what was sent, or what somebody else has made of it. */
  async #look() {
    const asking = this.#own.tell("GET", `/${this.id}?text=1`);
    const found = await within(asking, this.#own.http.quietS).catch(() => null);
    this.#isInDoubt = found === null && this.#refused.length > 0;
    if (found === null) return this.reconnect();
    const sent = this.#waiting.slice(0, this.#numSent);
    let numMade = found.version - this.#version;
    [this.#version, this.#confirmed, this.#numSent] = [found.version, found.text, 0];
    const isOthers = numMade > 0 && sent[numMade - 1]?.after !== found.text;
    if (isOthers || this.#refused.length > 0) this.#drop(new LiveRefused(CHANGED));
    else while (numMade-- > 0 && !isCommit(this.#waiting[0])) this.#waiting.shift().resolve();
  }

  #confirm() {
    this.#numSent--;
    const { after, resolve } = this.#waiting.shift();
    if (!this.#isInDoubt) [this.#version, this.#confirmed] = [this.#version + 1, after];
    resolve();
  }

  /** What waits behind a refusal goes with it, once it is known what the gateway has. */
  #refuse(told) {
    if (told.event_id !== this.#waiting[0]?.event.event_id) return;
    const error = told.type === "LiveRefusedError" ? new LiveRefused(told) : refusal(told);
    this.#refused.push({ ...this.#waiting.shift(), error });
    this.#numSent--;
    this.#isInDoubt = true;
  }

  #drop(error) {
    const dropped = [...this.#refused.splice(0), ...this.#waiting.splice(0)];
    this.#numSent = 0;
    this.text = this.#confirmed;
    for (const one of dropped) one.reject(one.error ?? dropped[0].error ?? error);
  }

  #tell({ version, prompt_tokens, stable_tokens, warm_tokens }) {
    this.#computed = {
      version, promptTokens: prompt_tokens, stableTokens: stable_tokens, warmTokens: warm_tokens,
    };
    this.#own.onComputed?.(this.#computed);
  }

  /** An answer has begun, ours if we have sent off a text. */
  #begin(id) {
    if (id === this.#answer) return;
    this.#answer = id;
    this.#isAnswering = true;
    this.#feed = null;
    if (this.#numSent !== 1 || !this.#isCommitting) return;
    this.#numSent = 0;
    const { resolve } = this.#waiting.shift();
    const feed = (this.#feed = new Feed(id, this.#own.http.quietS));
    const first = this.#own.isText ? (signal) => feed.events(signal) : null;
    resolve(this.#own.read({ id, cursor: 0, before: 0 }, first));
  }

  /** The answer is over: the conversation goes on, or the text is still there. */
  #settle({ version, response }) {
    if (!this.#isAnswering) return;
    this.#isAnswering = false;
    if (this.#feed !== null) {
      if (response.status === "failed") this.#drop(new LiveRefused(FAILED));
      else if (this.#version < version) [this.#version, this.#confirmed] = [this.#version + 1, ""];
    }
    this.#doubt(version);
  }

  #fail(error) {
    if (this.#failure !== null) return;
    this.#failure = error;
    this.#own.left(this);
    this.#socket?.close();
    this.#feed?.end(new CarrierLost());
    this.#drop(error);
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
