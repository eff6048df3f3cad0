/** The page at `/`: a chat that streams through the module, and shows how its answers come. */

import { Headstart, Unauthenticated } from "../headstart.js";
import { LiveTyping } from "./live_typing.js";
import { MessageView } from "./message_view.js";
import { Meter } from "./meter.js";

const KEPT = "headstart.chat";
const KEY = "headstart.key";
const LIVE = "headstart.live";

const find = (id) => document.getElementById(id);
const meter = new Meter(find("rung"), find("figures"), find("gaps"));

/**
 * `{messages: [{role, content, reasoning, end}], position, model}`; the last one's answer is at
 * `position`, and `model` was asked for it.
 */
let chat = restored();
let client = null;
/** What is being read, and before that what ends the asking for it. */
let answer = null;
let asking = null;

function restored() {
  try {
    const found = JSON.parse(sessionStorage.getItem(KEPT));
    if (Array.isArray(found?.messages)) return found;
  } catch {
    // What cannot be read is begun anew.
  }
  return { messages: [], position: null, model: null };
}

/** Take out the prompt that the page was left with before anything answered: nobody reads that. */
function takeUnanswered() {
  const last = chat.messages.at(-1);
  const isAnswered = chat.position !== null || last?.role !== "assistant";
  if (isAnswered || last.content || last.reasoning || last.end) return null;
  return chat.messages.splice(-2)[0].content;
}

/** Keep what a reload needs. Of an answer any moment will do: it is read on from there. */
function keep() {
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
    const chosen = select.value || chat.model;
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

function show(message) {
  find("empty").hidden = true;
  return new MessageView(find("messages"), message, () => meter.step());
}

function setBusy(isBusy) {
  const hadFocus = find("stop").matches(":focus-visible");
  find("send").hidden = isBusy;
  find("stop").hidden = !isBusy;
  find("anew").disabled = isBusy;
  if (hadFocus) find("prompt").focus(); // who uses keys is not sent back to the page's beginning
}

/** Read an answer to its end, the last message's. */
async function read(view) {
  const message = chat.messages.at(-1);
  try {
    for await (const chunk of answer) {
      const delta = chunk.choices[0]?.delta ?? {};
      for (const channel of ["reasoning", "content"]) {
        if (!delta[channel]) continue;
        message[channel] = (message[channel] ?? "") + delta[channel];
        view.add(channel, delta[channel]);
      }
      chat.position = answer.position;
      meter.by(answer.rungs);
    }
  } catch (error) {
    message.end = `Broken off: ${error.message}`;
    if (error instanceof Unauthenticated) explain(error);
  }
  view.end(message.end);
  meter.end();
  answer = chat.position = null;
  keep();
  setBusy(false);
  if (message.end) typing.forget(); // of a broken answer the gateway may have more than is shown
  typed();
}

async function send(prompt) {
  notify(null);
  chat.model = find("model").value;
  const request = { model: chat.model, stream: true };
  const messages = [...said(), { role: "user", content: prompt }];
  const typedLive = typing.commit(prompt);
  chat.messages.push({ role: "user", content: prompt }, { role: "assistant", content: "" });
  const views = chat.messages.slice(-2).map(show);
  views[1].begin();
  meter.begin({ isAsked: true });
  setBusy(true);
  const { signal } = (asking = new AbortController());
  try {
    answer =
      (await typedLive) ??
      (await client.chat.completions.create({ ...request, messages }, { signal }));
  } catch (error) {
    // Nothing was answered: the prompt goes back to where it can be mended.
    chat.messages.splice(-2);
    for (const view of views) view.remove();
    find("empty").hidden = chat.messages.length > 0;
    const typedSince = find("prompt").value;
    find("prompt").value = typedSince === "" ? prompt : `${prompt}\n${typedSince}`;
    meter.clear();
    setBusy(false);
    if (!signal.aborted) explain(error);
    return;
  }
  chat.position = answer.position;
  keep();
  if (signal.aborted) stop();
  await read(views[1]);
}

async function stop() {
  if (find("stop").hidden) return;
  if (answer === null) {
    asking.abort();
    typing.forget();
    return;
  }
  chat.messages.at(-1).end = "Stopped.";
  try {
    await answer.cancel();
  } catch (error) {
    explain(error);
  }
}

find("composer").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (find("model").value === "") await loadModels(); // perhaps somebody answers by now
  const prompt = find("prompt").value.trim();
  if (prompt === "" || !find("stop").hidden || find("model").value === "") return;
  find("prompt").value = "";
  send(prompt);
});
find("prompt").addEventListener("input", () => {
  client.prepare();
  typed();
});
find("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  find("composer").requestSubmit();
});
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
  if (event.key === "Escape" && !event.isComposing) stop();
});
find("stop").addEventListener("click", stop);
find("anew").addEventListener("click", () => {
  chat = { ...chat, messages: [], position: null };
  keep();
  typing.forget();
  find("messages").replaceChildren();
  find("empty").hidden = false;
  notify(null);
  meter.clear();
  typed();
  find("prompt").focus();
});
find("key").addEventListener("change", async () => {
  sessionStorage.setItem(KEY, find("key").value.trim());
  connect();
  await loadModels();
});
addEventListener("online", () => {
  if (find("model").disabled) loadModels();
});
addEventListener("pagehide", keep);
document.addEventListener("visibilitychange", keep); // a page that is hidden may never be told more

find("live").checked = sessionStorage.getItem(LIVE) === "on";
connect();
if (sessionStorage.getItem(KEY) !== null) {
  find("key-field").hidden = false;
  find("key").value = sessionStorage.getItem(KEY);
}
const unanswered = takeUnanswered();
const shown = chat.messages.map(show);
find("scroller").scrollTop = find("scroller").scrollHeight;
const loaded = loadModels();
if (unanswered !== null) {
  find("prompt").value = unanswered;
  loaded.then(() => find("composer").requestSubmit());
} else if (chat.position !== null) {
  answer = client.resume(chat.position);
  shown.at(-1).begin();
  meter.begin({ isAsked: false });
  setBusy(true);
  read(shown.at(-1));
}
