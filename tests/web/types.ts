// What TypeScript accepts of the module's declarations, and what it refuses; nothing here runs.

import {
  Headstart,
  HeadstartError,
  RateLimited,
  type Answer,
  type ChatChunk,
  type LivePrompt,
  type Position,
  type Rung,
} from "headstart-client";

const client = new Headstart({ apiKey: null, datagrams: true, limits: { raceS: 0.3 } });
const messages = [{ role: "user", content: "Name three colours." }];

export async function reads(signal: AbortSignal): Promise<Position> {
  const options = { signal, headers: { "x-request-id": "one" } };
  const answer = await client.chat.completions.create(
    { model: "m", messages, stream: true, temperature: 0 },
    options,
  );
  for await (const { choices } of answer) {
    const said: string = choices[0]?.delta.content ?? "";
    if (said === "stop") await answer.cancel();
  }
  const rungs: Rung[] = answer.rungs;
  console.log(rungs.includes("poll"));
  return answer.position;
}

export async function resumes(position: Position): Promise<void> {
  const answer: Answer<ChatChunk> = client.resume(position);
  answer.leave();
  const other = await client.completions.create({ model: "m", prompt: "Once", stream: true });
  for await (const { choices } of other) console.log(choices[0]?.text.length);
  const whole = await client.completions.create({ model: "m", prompt: "Once" });
  console.log(whole["choices"]);
  // @ts-expect-error: what is not streamed has no chunks.
  for await (const chunk of whole) console.log(chunk);
}

export async function types(): Promise<void> {
  const prompt: LivePrompt = await client.live({
    model: "m",
    onComputed: ({ warmTokens }) => console.log(warmTokens.toFixed()),
  });
  await prompt.set("Name three colours.");
  for await (const chunk of await prompt.commit()) console.log(chunk.usage?.total_tokens);
  await prompt.cancel();
  // @ts-expect-error: positions are numbers.
  await prompt.replace("0", 1, "");
}

export function tells(error: unknown): string {
  if (error instanceof RateLimited) return `later: ${error.status}`;
  return error instanceof HeadstartError ? `${error.type} ${error.param}` : "";
}
