// The browser module does what the Python codec and machines did (tests/golden/browser_vectors.py).

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Bytes, Reader, StreamReader, encodeMessage, putVarint } from "../../client/web/bytes.js";
import * as errors from "../../client/web/errors.js";
import { EventSplitter, RecordProjector } from "../../client/web/events.js";
import { Ladder } from "../../client/web/ladder.js";
import { addressOf } from "../../client/web/records.js";
import { Receiver } from "../../client/web/receiver.js";
import { Sha256 } from "../../client/web/sha256.js";
import { decodeSnapshot, encodeAck } from "../../client/web/wire.js";

const golden = JSON.parse(readFileSync(new URL("../golden/browser.json", import.meta.url)));
const hex = (bytes) => Buffer.from(bytes).toString("hex");
const bytes = (text) => Uint8Array.from(Buffer.from(text, "hex"));

test("varints", () => {
  for (const [number, encoded] of golden.varints) {
    const out = new Bytes();
    putVarint(out, number);
    assert.equal(hex(out.view()), encoded);
    assert.equal(new Reader(bytes(encoded)).varint(), number);
  }
});

test("SHA-256, whole and in pieces", () => {
  for (const [data, digest] of golden.sha256) {
    const input = bytes(data);
    assert.equal(hex(new Sha256().update(input).digest()), digest);
    const pieces = new Sha256();
    for (let at = 0; at < input.length; at += 37) pieces.update(input.subarray(at, at + 37));
    assert.equal(hex(pieces.digest()), digest);
  }
});

test("messages on streams, however they are cut", () => {
  const reader = new StreamReader();
  const found = [];
  for (const [message, encoded] of golden.messages) {
    if (message.type !== "hello") assert.equal(hex(encodeMessage(message)), encoded);
    for (const byte of bytes(encoded)) {
      reader.feed([byte]);
      const next = reader.message();
      if (next !== null) found.push(next);
    }
  }
  assert.deepEqual(found, golden.messages.map(([message]) => message));
  reader.feed([0x85, 0x01, 0x80]);
  assert.equal(reader.numbers(2), null);
  reader.feed([0x02, 7, 8]);
  assert.deepEqual(reader.numbers(2), [133, 256]);
  assert.deepEqual([...reader.rest()], [7, 8]);
});

test("acknowledgements", () => {
  for (const [ack, encoded] of golden.acks) assert.equal(hex(encodeAck(ack)), encoded);
});

test("snapshots", () => {
  for (const [told, encoded] of golden.snapshots) {
    const { stream, number, digest, pieces } = decodeSnapshot(bytes(encoded));
    const found = pieces.map(({ start, data }) => [start, hex(data)]);
    assert.deepEqual(
      { stream, number, digest: digest && hex(digest), pieces: found },
      told,
    );
  }
  for (const datagram of golden.malformed) {
    assert.throws(() => decodeSnapshot(bytes(datagram)), errors.ProtocolViolation, datagram);
  }
});

/** An event of ours, as what the golden file says of it. */
function payloadOf({ chunk, isDone, error }) {
  return isDone ? "[DONE]" : (chunk ?? `${error}`);
}

function told(block) {
  const [, cursor, payload] = block.match(/^id: (\d+)\ndata: (.*)$/s);
  if (payload === "[DONE]") return { cursor: Number(cursor), said: payload };
  const chunk = JSON.parse(payload);
  const said = chunk.error ? `${errors.errorIn(chunk)}` : chunk;
  return { cursor: Number(cursor), said };
}

for (const { name, log, body } of golden.logs) {
  const expected = body.trimEnd().split("\n\n").map(told);
  const said = (event) => ({ cursor: event.cursor, said: payloadOf(event) });

  test(`records of ${name} become the event stream's chunks`, () => {
    assert.deepEqual(new RecordProjector().feed(bytes(log)).map(said), expected);
  });

  test(`events of ${name}, however they are cut`, () => {
    const data = new TextEncoder().encode(body);
    for (const size of [1, 3, 7, data.length]) {
      const splitter = new EventSplitter();
      const found = [];
      for (let at = 0; at < data.length; at += size) {
        found.push(...splitter.feed(data.subarray(at, at + size)));
      }
      assert.deepEqual(found.map(said), expected);
    }
  });
}

test("receivers do the same at the same time", () => {
  const work = {
    snapshot: (receiver, step) => receiver.snapshot(decodeSnapshot(bytes(step.datagram)), step.at),
    catchUp: (receiver, step) =>
      receiver.catchUp({ start: step.start, data: step.log.subarray(step.start, step.stop) }, step.at),
    attach: (receiver, step) => receiver.attach(step.at),
    rendered: (receiver, step) => receiver.rendered(step.cursor, step.at),
    expire: (receiver, step) => receiver.expire(step.at),
  };
  /** What is rendered are the log's own bytes, which the golden file holds once. */
  const comparable = (action, log) => {
    if (action.type === "ack") return { type: "ack", datagram: hex(action.datagram) };
    if (action.type !== "render") return action;
    const { start, records } = action;
    assert.equal(hex(records), hex(log.subarray(start, start + records.length)));
    return { type: "render", start, size: records.length };
  };
  for (const { log, steps } of golden.receivers) {
    const whole = bytes(log);
    const receiver = new Receiver(9);
    for (const step of steps) {
      step.log = whole;
      if (step.refused) {
        assert.throws(() => work[step.do](receiver, step), errors.ProtocolViolation);
        continue;
      }
      const actions = work[step.do](receiver, step).map((one) => comparable(one, whole));
      const deadline = receiver.deadline();
      const { have, shown } = receiver;
      assert.deepEqual(
        { actions, deadline: Number.isFinite(deadline) ? deadline : null, have, shown },
        { actions: step.actions, deadline: step.deadline, have: step.have, shown: step.shown },
        JSON.stringify({ ...step, log: null }),
      );
    }
  }
});

test("ladders do the same at the same time", () => {
  for (const { hasDatagrams, start, steps } of golden.ladders) {
    const ladder = new Ladder(hasDatagrams);
    assert.deepEqual(ladder.start(), start);
    for (const step of steps) {
      const { at, rung, cursor } = step;
      const actions =
        step.do === "expire"
          ? ladder.expire(at)
          : ladder[step.do](rung, ...(step.do === "advanced" ? [cursor, at] : [at]));
      assert.deepEqual(
        { actions, deadline: ladder.deadline(), rungs: ladder.rungs },
        { actions: step.actions, deadline: step.deadline, rungs: step.rungs },
        JSON.stringify(step),
      );
    }
  }
});

test("sessions are opened at the address that Python's client takes", () => {
  const inUrl = (host) => (host.includes(":") ? `[${host}]` : host);
  for (const { announced, asked, isPinned, host } of golden.addresses) {
    const certificate_hashes = isPinned ? [{}] : [];
    const offer = { url: `https://${inUrl(announced)}:8443/a`, is_public: false, certificate_hashes };
    const base = `http://${inUrl(asked)}:8000`;
    assert.equal(addressOf(offer, base), `https://${inUrl(host)}:8443/a`, JSON.stringify(offer));
    const told = { ...offer, is_public: true };
    assert.equal(addressOf(told, base), offer.url);
  }
});

test("errors are those of the Python client", () => {
  for (const { name, base, status, type, isRetryable } of golden.errors) {
    const error = new errors[name]("why", "where");
    assert.deepEqual(
      [error.name, error.status, error.type, error.isRetryable, error.message, error.param],
      [name, status, type, isRetryable, "why", "where"],
    );
    if (base !== null) assert.equal(Object.getPrototypeOf(errors[name]), errors[base]);
  }
  for (const [status, body, { name, message, param }] of golden.refusals) {
    const error = errors.errorOf(status, body);
    assert.deepEqual([error.name, error.message, error.param], [name, message, param]);
  }
});
