/** The page's prompt, sent as it is typed while a box is ticked. */

export class LiveTyping {
  #box;
  #told;
  #begin;
  #explain;
  #prompt = null;
  #wanted = "";
  #sending = null;

  /**
   * `box` switches it on and off; `told` shows what is computed; `begin` begins a live prompt of the
   * conversation as it is; `explain` is told why one is refused.
   */
  constructor(box, told, begin, explain) {
    this.#box = box;
    this.#told = told;
    this.#begin = begin;
    this.#explain = explain;
  }

  /** The text is now this; what is typed while it is sent goes together. */
  typed(text) {
    if (!this.#box.checked || (text === "" && this.#prompt === null)) return;
    this.#wanted = text;
    this.#sending ??= this.#send().finally(() => (this.#sending = null));
  }

  /** Send the text off; resolves to its answer, or to null where it was not typed live. */
  async commit(text) {
    this.typed(text);
    await this.#sending;
    const prompt = this.#prompt;
    if (!this.#box.checked || prompt === null) return null;
    try {
      return await prompt.commit();
    } catch (error) {
      this.forget(); // whether it was taken or not, another one has the conversation as it is here
      throw error;
    }
  }

  /** Have the gateway forget what was typed; the next text begins anew. */
  forget() {
    this.#prompt?.close();
    this.#prompt = null;
    this.#told.textContent = "";
  }

  async #send() {
    try {
      this.#prompt ??= await this.#begin((computed) => this.#tell(computed));
      while (this.#prompt !== null && this.#prompt.text !== this.#wanted) {
        this.#wanted = this.#wanted.toWellFormed?.() ?? this.#wanted;
        await this.#prompt.set(this.#wanted);
      }
    } catch (error) {
      this.forget();
      this.#box.checked = false;
      this.#explain(error);
    }
  }

  #tell({ promptTokens, warmTokens }) {
    this.#told.textContent = `${warmTokens} of ${promptTokens} tokens computed`;
  }
}
