// Asks a server through the official Node client and prints what it got, as JSON.
// Arguments: folder that holds the package `openai`, base URL, model.
import { createRequire } from "node:module";

const [folder, baseURL, model] = process.argv.slice(2);
const { OpenAI } = createRequire(`${folder}/`)("openai");
const client = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0 });
const messages = [{ role: "user", content: "Name three colours." }];
const found = {};

found.models = [];
for await (const one of client.models.list()) found.models.push(one.id);
found.model = (await client.models.retrieve(model)).id;

const chat = { model, messages, max_tokens: 8, temperature: 0 };
found.chat = (await client.chat.completions.create(chat)).choices[0].message.content;
found.streamedChat = "";
for await (const chunk of await client.chat.completions.create({ ...chat, stream: true })) {
  found.streamedChat += chunk.choices[0]?.delta.content ?? "";
}

const completion = { model, prompt: "The sky is", max_tokens: 8, temperature: 0 };
found.completion = (await client.completions.create(completion)).choices[0].text;

const asked = { model, input: "Name three colours.", max_output_tokens: 8, temperature: 0 };
found.response = (await client.responses.create(asked)).output_text;
found.streamedResponse = "";
found.events = [];
for await (const event of await client.responses.create({ ...asked, stream: true })) {
  if (event.type === "response.output_text.delta") found.streamedResponse += event.delta;
  found.events.push(event.type);
}
const helper = client.responses.stream(asked);
found.assembledResponse = (await helper.finalResponse()).output_text;

for (const [name, ask] of Object.entries({
  embeddings: () => client.embeddings.create({ model, input: "a" }),
  unknownModel: () => client.chat.completions.create({ ...chat, model: "gpt-9" }),
  refused: () => client.chat.completions.create({ ...chat, max_tokens: 0, stream: true }),
})) {
  try {
    await ask();
    found[name] = "answered";
  } catch (error) {
    found[name] = [error.constructor.name, error.status];
  }
}
console.log(JSON.stringify(found));
