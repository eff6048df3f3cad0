// A transport for the Vercel AI SDK's `useChat` (5 and later): answers come by Headstart's module.
//
//     const client = new Headstart({ baseUrl: "https://llm.example.com" });
//     const transport = new HeadstartTransport(client, "smollm2-135m-instruct");
//     const { messages, sendMessage, stop } = useChat({ transport, resume: true });
//
// Text and reasoning are carried; tools are not. Stopping stops the engine, and does so after a
// reload too: what is stored is the answer's id, and the server has the rest.

const keyOf = (chatId) => `headstart.answer.${chatId}`;

export class HeadstartTransport {
  /**
   * @param {import("headstart-client").Headstart} client
   * @param {string} model
   * @param {Storage} storage Where the id of an answer outlives a reload.
   */
  constructor(client, model, storage = globalThis.sessionStorage) {
    this.client = client;
    this.model = model;
    this.storage = storage;
  }

  async sendMessages({ chatId, messages, abortSignal, body, headers }) {
    const answer = await this.client.chat.completions.create(
      { model: this.model, messages: messages.map(toOpenAI), ...body, stream: true },
      { signal: abortSignal, headers: Object.fromEntries(new Headers(headers)) },
    );
    this.storage.setItem(keyOf(chatId), answer.id);
    return this.streamOf(chatId, answer, abortSignal);
  }

  /** The SDK builds the message anew, so the answer is read from its beginning. */
  async reconnectToStream({ chatId, abortSignal }) {
    const id = this.storage.getItem(keyOf(chatId));
    if (id === null) return null;
    const answer = this.client.resume({ id, cursor: 0, before: 0 });
    abortSignal?.addEventListener("abort", () => answer.close());
    return this.streamOf(chatId, answer, abortSignal);
  }

  async *parts(chatId, answer, abortSignal) {
    let open = null;
    let count = 0;
    yield { type: "start" };
    yield { type: "start-step" };
    try {
      for await (const { choices } of answer) {
        const { reasoning, content } = choices[0]?.delta ?? {};
        for (const [kind, delta] of [["reasoning", reasoning], ["text", content]]) {
          if (!delta) continue;
          if (open?.kind !== kind) {
            if (open !== null) yield { type: `${open.kind}-end`, id: open.id };
            open = { kind, id: String(++count) };
            yield { type: `${kind}-start`, id: open.id };
          }
          yield { type: `${kind}-delta`, id: open.id, delta };
        }
      }
      if (open !== null) yield { type: `${open.kind}-end`, id: open.id };
      if (abortSignal?.aborted) yield { type: "abort" };
      else {
        yield { type: "finish-step" };
        yield { type: "finish" };
      }
    } catch (error) {
      yield { type: "error", errorText: error.message };
    }
    this.storage.removeItem(keyOf(chatId));
  }

  /** Leaving the stream stops the answer, however long its next word takes. */
  streamOf(chatId, answer, abortSignal) {
    const parts = this.parts(chatId, answer, abortSignal);
    return new ReadableStream({
      async pull(controller) {
        const { done, value } = await parts.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: () => {
        this.storage.removeItem(keyOf(chatId));
        return answer.close();
      },
    });
  }
}

function toOpenAI({ role, parts }) {
  const texts = parts.filter(({ type }) => type === "text").map(({ text }) => text);
  return { role, content: texts.join("") };
}
