/** What a page imports to talk to a Headstart gateway: OpenAI's calls and chunks (docs/browser.md). */

import { Answer } from "./answer.js";
import { EventStream, Http, Polling } from "./carriers.js";
import { EngineUnavailable, RequestTimeout, errorOf } from "./errors.js";
import { DATAGRAMS, POLL, SSE } from "./ladder.js";
import { Records } from "./records.js";
import { TookTooLong, now, within } from "./waiting.js";

export {
  BadRequest, Cancelled, ClientError, EngineError, EngineFailed, EngineLost, EngineUnavailable,
  Forbidden, HeadTooLarge, HeadstartError, NotFound, PayloadTooLarge, ProtocolViolation, RateLimited,
  RequestTimeout, Unauthenticated,
} from "./errors.js";
export { Answer };

/** The gateway says something every 15 s unless it is told otherwise. */
const QUIET_S = 20;
/** A page hidden for so long may have slept, and its connections died unnoticed. */
const ASLEEP_S = 5;

export class Headstart {
  #http;
  #timeoutS;
  #limits;
  #carriers;
  #records = null;
  #answers = new Set();
  #hiddenSince = null;
  #left = (answer) => {
    this.#answers.delete(answer);
    if (this.#answers.size === 0) this.#listen("removeEventListener");
  };
  #onOnline = () => this.#networkChanged();
  #onVisibility = () => this.#visibilityChanged();

  /** Options are described in headstart.d.ts. */
  constructor({
    baseUrl = globalThis.location?.origin ?? "http://127.0.0.1:8000",
    apiKey = null,
    timeoutS = 600,
    quietS = QUIET_S,
    datagrams = true,
    limits = {},
  } = {}) {
    const headers = apiKey === null ? {} : { authorization: `Bearer ${apiKey}` };
    this.#http = new Http(baseUrl.replace(/\/+$/, "").replace(/\/v1$/, ""), headers, quietS);
    this.#timeoutS = timeoutS;
    this.#limits = limits;
    this.#carriers = new Map([
      [SSE, new EventStream()],
      [POLL, new Polling()],
    ]);
    if (datagrams && Records.isPossible) {
      this.#records = new Records(this.#http);
      this.#carriers.set(DATAGRAMS, this.#records);
    }
    const create = (path) => ({
      create: (body, options) => this.#create(path, body, options),
    });
    this.chat = { completions: create("/v1/chat/completions") };
    this.completions = create("/v1/completions");
    this.models = { list: () => this.#whole("/v1/models", {}, null) };
  }

  prepare() {
    this.#records?.prepare();
  }

  resume(position) {
    this.prepare();
    return this.#read(position, null);
  }

  async live(options = {}) {
    this.prepare();
    const { begin } = await import("./live.js");
    const read = (position, first) => this.#read(position, first);
    return this.#hold(await begin(this.#http, this.#ask.bind(this), read, options, this.#left));
  }

  async close() {
    await Promise.all([...this.#answers].map((answer) => answer.close()));
    this.#records?.close();
  }

  async #create(path, { stream = false, ...fields }, { signal = null, headers = {} } = {}) {
    const options = {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify(stream ? { ...fields, stream } : fields),
    };
    if (!stream) return this.#whole(path, options, signal);
    this.prepare();
    options.headers["x-headstart-detach"] = "1";
    const response = await this.#ask(path, options, signal);
    const id = response.headers.get("x-headstart-stream") ?? "";
    // Timings come by no other carrier.
    const isTimed = fields.headstart?.timing === true;
    const carriers = new Map(this.#carriers);
    if (isTimed) carriers.delete(DATAGRAMS);
    const http = this.#http.with(headers);
    const first = (leaving) => http.events(response, leaving);
    const answer = this.#read({ id, cursor: 0, before: 0 }, first, carriers, http);
    signal?.addEventListener("abort", () => answer.close(), { once: true });
    if (signal?.aborted) answer.close();
    return answer;
  }

  async #whole(path, options, signal) {
    const response = await this.#ask(path, options, signal);
    try {
      return await response.json();
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new EngineUnavailable(`the connection was lost: ${error.message}`);
    }
  }

  /** Send a request; its response's body is still to be read. */
  async #ask(path, options, signal) {
    const leaving = new AbortController();
    const leave = () => leaving.abort(signal.reason);
    signal?.addEventListener("abort", leave);
    if (signal?.aborted) leave();
    try {
      const asking = this.#http.fetch(path, { ...options, signal: leaving.signal });
      const response = await within(asking, this.#timeoutS);
      if (response.ok) return response;
      throw errorOf(response.status, await within(response.text(), this.#timeoutS));
    } catch (error) {
      if (signal?.aborted) throw error;
      if (error instanceof TookTooLong) {
        leaving.abort();
        throw new RequestTimeout(`no answer began within ${this.#timeoutS} s`);
      }
      if (error instanceof TypeError) {
        throw new EngineUnavailable(`the gateway cannot be reached: ${error.message}`);
      }
      throw error;
    } finally {
      signal?.removeEventListener("abort", leave);
    }
  }

  #read(position, first, carriers = this.#carriers, http = this.#http) {
    return this.#hold(new Answer(http, carriers, position, first, this.#limits, this.#left));
  }

  #hold(answer) {
    if (this.#answers.size === 0) this.#listen("addEventListener");
    this.#answers.add(answer);
    return answer;
  }

  /** Meanwhile, notice what kills connections without a word. */
  #listen(change) {
    globalThis[change]?.("online", this.#onOnline);
    globalThis.document?.[change]("visibilitychange", this.#onVisibility);
  }

  #networkChanged() {
    this.#records?.renew();
    for (const answer of this.#answers) answer.reconnect();
  }

  #visibilityChanged() {
    if (document.visibilityState === "hidden") {
      this.#hiddenSince = now();
      return;
    }
    const wasAsleep = this.#hiddenSince !== null && now() - this.#hiddenSince > ASLEEP_S;
    this.#hiddenSince = null;
    this.#records?.attach();
    if (!wasAsleep) return;
    // A session notices a silent path itself.
    for (const answer of this.#answers) answer.reconnect([SSE, POLL]);
  }
}
