/** The page at `/`: a chat that streams through the module, and shows how its answers come. */

import { GapStrip } from "./gap_strip.js";
import { Headstart, Unauthenticated } from "./headstart.js";
import { LiveTyping } from "./live_typing.js";

const KEPT = "headstart.chat";
const KEY = "headstart.key";
const LIVE = "headstart.live";
/** Seconds between two writes of what a reload needs; whatever is written last fits together. */
const KEEP_S = 0.25;

const find = (id) => document.getElementById(id);
const now = () => performance.now() / 1000;
const strip = new GapStrip(find("gaps"));

/** `{messages: [{role, content, reasoning, end}], position}`; the last one's answer is at `position`. */
let chat = restored();
let client = null;
let answer = null;
let keptAt = 0;

function restored() {
  try {
    const found = JSON.parse(sessionStorage.getItem(KEPT));
    if (Array.isArray(found?.messages)) return found;
  } catch {
    // What cannot be read is begun anew.
  }
  return { messages: [], position: null };
}

function keep(isUrgent = true) {
  if (!isUrgent && now() - keptAt < KEEP_S) return;
  keptAt = now();
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(chat));
  } catch {
    // Storage is full or forbidden: the chat goes on, and a reload begins anew.
  }
}

/** The conversation so far, as a request has it. */
const said = () => chat.messages.map(({ role, content }) => ({ role, content }));

const typing = new LiveTyping(
  find("live"),
  find("computed"),
  (onComputed) => client.live({ model: find("model").value, messages: said(), onComputed }),
  explain,
);

/** What is in the composer, unless an answer is being made: the next prompt has to wait for that. */
function typed() {
  if (find("stop").hidden && find("model").value !== "") typing.typed(find("prompt").value);
}

/** A client for the key there is; another key is another client. */
function connect() {
  typing.forget();
  client?.close();
  client = new Headstart({
    baseUrl: new URL(".", location.href).href,
    apiKey: sessionStorage.getItem(KEY),
  });
}

async function loadModels() {
  const select = find("model");
  try {
    const { data } = await client.models.list();
    const chosen = select.value;
    select.replaceChildren(...data.map(({ id }) => new Option(id, id, false, id === chosen)));
    select.disabled = data.length === 0;
    notify(data.length === 0 ? "This key may use no model." : null);
  } catch (error) {
    explain(error);
  }
}

function explain(error) {
  if (error instanceof Unauthenticated) find("key-field").hidden = false;
  notify(error.message);
}

function notify(text) {
  find("notice").textContent = text ?? "";
  find("notice").hidden = text === null;
}

function addMessage({ role, content, reasoning = "", end = null }) {
  const item = document.createElement("li");
  item.className = role;
  const thought = document.createElement("div");
  thought.className = "reasoning";
  thought.textContent = reasoning;
  const text = document.createElement("div");
  text.className = "text";
  text.textContent = content;
  item.append(thought, text);
  if (end !== null) markEnd(item, end);
  find("messages").append(item);
  find("empty").hidden = true;
  return item;
}

function markEnd(item, end) {
  item.classList.add("broken");
  item.dataset.end = end;
}

/** Shows text when the browser draws, however many pieces have come by then. */
class Painter {
  #item;
  #pending = { content: "", reasoning: "" };
  #isDue = false;
  #isFirst = true;
  #beganAt = now();

  constructor(item) {
    this.#item = item;
  }

  add(channel, text) {
    this.#pending[channel] += text;
    if (this.#isDue) return;
    this.#isDue = true;
    // Nothing is drawn in the background, and nothing waits to be drawn there.
    if (document.hidden) queueMicrotask(() => this.flush());
    else requestAnimationFrame(() => this.flush());
  }

  flush() {
    this.#isDue = false;
    const { content, reasoning } = this.#pending;
    if (content === "" && reasoning === "") return;
    this.#pending = { content: "", reasoning: "" };
    const scroller = find("scroller");
    const isAtEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 48;
    // Everything is written before anything is read again: the page is laid out once a frame.
    this.#item.querySelector(".reasoning").append(reasoning);
    this.#item.querySelector(".text").append(content);
    if (document.hidden) strip.pause();
    else strip.step(now());
    this.#tell();
    if (isAtEnd) scroller.scrollTop = scroller.scrollHeight;
    strip.draw();
  }

  #tell() {
    if (this.#isFirst) this.firstS = now() - this.#beganAt;
    this.#isFirst = false;
    const ms = (seconds) => `${Math.round(seconds * 1000)} ms`;
    const pauses = strip.numPauses === 1 ? "1 pause" : `${strip.numPauses} pauses`;
    find("figures").textContent =
      `first text ${ms(this.firstS)} · longest gap ${ms(strip.longestS)} · ${pauses}`;
  }
}

const RUNGS = { datagrams: "datagrams", stream: "WebTransport stream", sse: "SSE", poll: "polling" };

function showRungs() {
  const rungs = answer?.rungs ?? [];
  const badge = find("rung");
  const words = rungs.map((rung) => RUNGS[rung]).join(" + ");
  if (words !== "" && badge.textContent !== words) {
    badge.textContent = words;
    badge.dataset.rung = rungs.join(" ");
  }
}

function setBusy(isBusy) {
  find("send").hidden = isBusy;
  find("stop").hidden = !isBusy;
  find("anew").disabled = isBusy;
}

/** Draw an answer to its end, the last message's. */
async function draw(item) {
  const message = chat.messages[chat.messages.length - 1];
  const painter = new Painter(item);
  item.classList.add("streaming");
  setBusy(true);
  strip.clear();
  try {
    for await (const chunk of answer) {
      const delta = chunk.choices[0]?.delta ?? {};
      for (const channel of ["reasoning", "content"]) {
        if (!delta[channel]) continue;
        message[channel] = (message[channel] ?? "") + delta[channel];
        painter.add(channel, delta[channel]);
      }
      chat.position = answer.position;
      keep(false);
      showRungs();
    }
    if (message.end) markEnd(item, message.end);
  } catch (error) {
    message.end = `Broken off: ${error.message}`;
    markEnd(item, message.end);
    explain(error);
  }
  painter.flush();
  item.classList.remove("streaming");
  answer = chat.position = null;
  keep();
  setBusy(false);
  if (message.end) typing.forget(); // of a broken answer the gateway may have more than is shown
  typed();
}

async function send(prompt) {
  notify(null);
  const request = { model: find("model").value, stream: true };
  const messages = [...said(), { role: "user", content: prompt }];
  const typedLive = typing.commit(prompt);
  chat.messages.push({ role: "user", content: prompt });
  addMessage({ role: "user", content: prompt });
  const item = addMessage({ role: "assistant", content: "" });
  item.scrollIntoView({ block: "end" });
  chat.messages.push({ role: "assistant", content: "" });
  setBusy(true);
  try {
    answer =
      (await typedLive) ?? (await client.chat.completions.create({ ...request, messages }));
  } catch (error) {
    // Nothing was answered: the prompt goes back to where it can be mended.
    chat.messages.splice(-2);
    item.previousSibling.remove();
    item.remove();
    find("empty").hidden = chat.messages.length > 0;
    find("prompt").value ||= prompt;
    setBusy(false);
    explain(error);
    return;
  }
  chat.position = answer.position;
  keep();
  await draw(item);
}

async function stop() {
  if (answer === null) return;
  chat.messages[chat.messages.length - 1].end = "Stopped.";
  try {
    await answer.cancel();
  } catch (error) {
    explain(error);
  }
}

find("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const prompt = find("prompt").value.trim();
  if (prompt === "" || !find("stop").hidden || find("model").value === "") return;
  find("prompt").value = "";
  send(prompt);
});
find("prompt").addEventListener("input", () => client.prepare());
find("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  find("composer").requestSubmit();
});
find("prompt").addEventListener("input", typed);
find("model").addEventListener("change", () => {
  typing.forget();
  typed();
});
find("live").addEventListener("change", () => {
  sessionStorage.setItem(LIVE, find("live").checked ? "on" : "");
  if (find("live").checked) typed();
  else typing.forget();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") stop();
});
find("stop").addEventListener("click", stop);
find("anew").addEventListener("click", () => {
  chat = { messages: [], position: null };
  keep();
  typing.forget();
  find("messages").replaceChildren();
  find("empty").hidden = false;
  strip.clear();
  find("figures").textContent = "";
  typed();
  find("prompt").focus();
});
find("key").addEventListener("change", async () => {
  sessionStorage.setItem(KEY, find("key").value.trim());
  connect();
  await loadModels();
});
addEventListener("pagehide", () => keep());
document.addEventListener("visibilitychange", () => strip.pause());
new ResizeObserver(() => strip.draw()).observe(find("gaps"));

find("live").checked = sessionStorage.getItem(LIVE) === "on";
connect();
if (sessionStorage.getItem(KEY) !== null) {
  find("key-field").hidden = false;
  find("key").value = sessionStorage.getItem(KEY);
}
for (const message of chat.messages) addMessage(message);
find("scroller").scrollTop = find("scroller").scrollHeight;
loadModels();
if (chat.position !== null) {
  answer = client.resume(chat.position);
  draw(find("messages").lastChild);
}
