// Reads an answer with nothing but the browser's own `EventSource`, which reconnects by itself and
// then says, in `Last-Event-ID`, up to where it has read.
//
// It cannot send an API key: use it with a gateway that has none, or behind a proxy that adds one.

export async function readWithEventSource(baseUrl, body, onText) {
  const response = await fetch(`${baseUrl}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-headstart-detach": "1" },
    body: JSON.stringify({ ...body, stream: true }),
  });
  if (!response.ok) throw new Error((await response.json()).error.message);
  const id = response.headers.get("x-headstart-stream");
  await response.body.cancel(); // detached: it goes on, and is read below

  let isWhole = false; // but for the word that says so
  return new Promise((resolve, reject) => {
    const source = new EventSource(`${baseUrl}/v1/streams/${id}`);
    const end = (settle, value) => {
      source.close();
      settle(value);
    };
    source.onmessage = ({ data }) => {
      if (data === "[DONE]") return end(resolve, id);
      const chunk = JSON.parse(data);
      if (chunk.error) return end(reject, new Error(chunk.error.message));
      isWhole ||= chunk.choices.some((choice) => choice.finish_reason);
      onText(chunk.choices[0]?.delta.content ?? "");
    };
    source.onerror = () => {
      // While it is connecting again it is not closed: the browser goes on by itself.
      if (source.readyState !== EventSource.CLOSED) return;
      if (isWhole) end(resolve, id);
      else end(reject, new Error("the answer is gone"));
    };
  });
}
