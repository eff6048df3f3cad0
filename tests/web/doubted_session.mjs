/** A session that others read by does not answer; prints what becomes of it and of who asks. */

import { gateway, sessions } from "./session_fakes.mjs";
import { CarrierLost } from "../../client/web/carriers.js";
import { Records } from "../../client/web/records.js";

const wait = globalThis.setTimeout;
globalThis.setTimeout = (work) => wait(work, 20); // of so many seconds

const read = (records, id) => records.read(gateway, id, 0, 0, new AbortController().signal);

async function outcome(records) {
  try {
    await read(records, "a").next();
  } catch (error) {
    return error instanceof CarrierLost ? "lost" : String(error);
  }
  return "read";
}

const closed = () => [...sessions.keys()].filter((index) => sessions[index].isClosed);

const found = { outcomes: [] };

const inTheDark = new Records(gateway);
await read(inTheDark, "begun").next();
gateway.isOffered = false;
found.outcomes.push(await outcome(inTheDark));
found.isUsableInTheDark = await inTheDark.isUsable();
sessions[0].says(new Uint8Array(1));
await new Promise((resolve) => wait(resolve, 0));
found.isUsableWhenHeard = await inTheDark.isUsable();

gateway.isOffered = true;
const ofAnother = new Records(gateway);
const others = read(ofAnother, "begun");
await others.next();
found.outcomes.push(await outcome(ofAnother));
found.isUsableAsAnother = (await ofAnother.isUsable()) && sessions.length === 3;
found.closedWhileRead = closed();
await others.return();
found.closedAtTheEnd = closed();
console.log(JSON.stringify(found));
process.exit(0);
