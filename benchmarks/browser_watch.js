/**
 * Notes when text of the last answer is drawn. Runs before the page's own scripts, and outside of
 * them: the page is the one that users get. `HAS_DATAGRAMS` and `HAS_FRAMES` are filled in.
 */
(() => {
  if (!HAS_DATAGRAMS) delete globalThis.WebTransport;
  const watch = (globalThis.headstartWatch = {
    id: null,
    askedAt: null,
    /** Milliseconds of the page's clock, and UTF-16 units that could be seen from then on. */
    at: [],
    lengths: [],
    /** When nothing but datagrams carried it. */
    climbedAt: null,
    frames: [],
    numDrawn: 0,
    ended: null,
  });
  /** Outlives a reload, also one after the answer's end, when the page keeps no position. */
  const ID = "headstartWatch.id";
  const find = (selector) => document.querySelector(selector);
  const text = () => find("#messages li.assistant:last-child .content")?.textContent ?? "";
  let end = () => {};

  const fetchOfThePage = globalThis.fetch;
  globalThis.fetch = async (...words) => {
    const response = await fetchOfThePage(...words);
    if (words[1]?.method === "POST") {
      watch.id = response.headers.get("x-headstart-stream");
      sessionStorage.setItem(ID, watch.id);
    }
    return response;
  };

  const requestFrame = globalThis.requestAnimationFrame;
  globalThis.requestAnimationFrame = (draw) => {
    watch.numDrawn++;
    return requestFrame(draw);
  };

  /** Type a prompt; a page gets ready then. */
  watch.type = (prompt) => {
    find("#prompt").value = prompt;
    find("#prompt").dispatchEvent(new Event("input", { bubbles: true }));
  };

  /** Send a prompt off in an empty chat. */
  watch.ask = (model, prompt) => {
    find("#anew").click();
    find("#model").value = model;
    find("#prompt").value = prompt;
    Object.assign(watch, { id: null, at: [], lengths: [], climbedAt: null, frames: [] });
    watch.numDrawn = 0;
    watch.ended = new Promise((resolve) => (end = resolve));
    watch.askedAt = performance.now();
    find("#composer").requestSubmit();
    if (HAS_FRAMES) requestFrame(frame);
  };

  watch.taken = () => {
    const { id, askedAt, at, lengths, climbedAt, frames } = watch;
    return { id, askedAt, at, lengths, climbedAt, frames, text: text(), rung: find("#rung").dataset.rung };
  };

  let last = null;
  const frame = (now) => {
    if (last !== null) watch.frames.push(now - last);
    last = find("#stop").hidden ? null : now;
    if (last !== null) requestFrame(frame);
  };

  const look = () => {
    const { length } = text();
    if (length !== (watch.lengths.at(-1) ?? 0)) {
      watch.at.push(performance.now());
      watch.lengths.push(length);
    }
    if (length > 0 && find("#rung").dataset.rung === "datagrams") watch.climbedAt ??= performance.now();
    if (find("#stop").hidden && !find("#anew").disabled) end(true);
  };

  addEventListener("DOMContentLoaded", () => {
    // A page that was loaded again reads an answer on, whose request went out before.
    watch.id = sessionStorage.getItem(ID);
    watch.ended = new Promise((resolve) => (end = resolve));
    // Without frames only the button tells: whoever weighs the page wants nothing read in it.
    const seen = HAS_FRAMES ? document.body : find("#stop");
    new MutationObserver(look).observe(seen, { childList: true, subtree: true, attributes: true, characterData: true });
  });
})();
