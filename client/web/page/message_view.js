/** A message of the conversation as it is seen, drawn once a frame however many pieces have come. */

/** Pixels from the conversation's end within which its reader is taken along. */
const AT_END = 48;

export class MessageView {
  #item = document.createElement("li");
  #scroller;
  #onDrawn;
  #pending = { reasoning: "", content: "" };
  #isDue = false;

  /** Show a message at a list's end; `onDrawn` is told whenever more of it can be seen. */
  constructor(list, { role, content, reasoning = "", end }, onDrawn = () => {}) {
    this.#item.className = role;
    this.#scroller = list.parentElement;
    this.#onDrawn = onDrawn;
    this.#write({ reasoning, content });
    list.append(this.#item);
    if (end) this.end(end);
  }

  /** More is coming, until it is over. */
  begin() {
    this.#part("content");
    this.#item.classList.add("streaming");
    this.#item.ariaBusy = "true"; // who has it read out hears it once it is whole
    this.#item.scrollIntoView({ block: "end" });
  }

  add(channel, text) {
    this.#pending[channel] += text;
    if (this.#isDue) return;
    this.#isDue = true;
    // Nothing is drawn in the background, and nothing waits to be drawn there.
    if (document.hidden) queueMicrotask(() => this.#draw());
    else requestAnimationFrame(() => this.#draw());
  }

  /** No more is coming, for this reason unless it is whole. */
  end(why = null) {
    this.#draw();
    this.#item.classList.remove("streaming");
    this.#item.ariaBusy = null;
    if (why === null) return;
    const note = document.createElement("p");
    note.className = "end";
    note.textContent = why;
    this.#item.append(note);
    this.#follow(() => {});
  }

  remove() {
    this.#item.remove();
  }

  #draw() {
    this.#isDue = false;
    const pending = this.#pending;
    if (pending.reasoning === "" && pending.content === "") return;
    this.#pending = { reasoning: "", content: "" };
    this.#follow(() => this.#write(pending));
    this.#onDrawn();
  }

  #write(texts) {
    for (const [channel, text] of Object.entries(texts)) {
      if (text !== "") this.#part(channel).append(text);
    }
  }

  #part(channel) {
    const known = this.#item.querySelector(`.${channel}`);
    if (known !== null) return known;
    const part = document.createElement("div");
    part.className = channel;
    if (channel === "reasoning") this.#item.prepend(part);
    else this.#item.append(part);
    return part;
  }

  /** Change what is shown, and take along a reader who is at the end. */
  #follow(change) {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    change();
    if (scrollHeight - scrollTop - clientHeight > AT_END) return;
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }
}
