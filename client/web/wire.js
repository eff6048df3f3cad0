/** What a datagram says, and its bytes (docs/adr/0004): `headstart.stages.wire`, the reader's half. */

import { Bytes, Reader, putArrayHead, putTextHead, putVarint, putWhole } from "./bytes.js";
import { ProtocolViolation } from "./errors.js";

const WIRE_VERSION = 1;
export const DIGEST_BYTES = 8;

const SNAPSHOT = 0;
const LAST_SNAPSHOT = 1;
const ACK = 2;
const SLICE = 0x80;
const LONG_TEXT = 7;

/** Encode an acknowledgement; its fields are those of `stages.wire.Ack`. */
export function encodeAck(ack) {
  const isRendered = ack.renderedUs !== null;
  const out = new Bytes();
  out.push((WIRE_VERSION << 4) | ACK, ack.hasGap | (ack.isComplete << 1) | (isRendered << 2));
  const { stream, have, newest, numReceived, receivedUs, heldUs } = ack;
  for (const value of [stream, have, newest, numReceived, receivedUs, heldUs]) putVarint(out, value);
  if (isRendered) putVarint(out, ack.renderedUs);
  return out.view();
}

/**
 * Decode a snapshot: `{stream, number, digest, pieces: [{start, data}]}`, of which `data` are bytes
 * of the token log and `digest` is null but in the last.
 */
export function decodeSnapshot(datagram) {
  const reader = new Reader(datagram);
  const head = reader.byte();
  const kind = head & 0x0f;
  if (head >> 4 !== WIRE_VERSION || kind > LAST_SNAPSHOT) {
    throw new ProtocolViolation("not a snapshot of this version");
  }
  const stream = reader.varint();
  const number = reader.varint();
  const digest = kind === SNAPSHOT ? null : reader.take(DIGEST_BYTES).slice();
  const pieces = [];
  for (let remaining = reader.varint(); remaining >= 0; remaining--) {
    const start = reader.varint();
    const referenceUs = reader.varint();
    const size = remaining ? reader.varint() : datagram.length - reader.position;
    pieces.push({ start, data: decodeItems(new Reader(reader.take(size)), referenceUs) });
  }
  return { stream, number, digest, pieces };
}

function decodeItems(reader, referenceUs) {
  const out = new Bytes();
  while (!reader.isDone) {
    const head = reader.byte();
    if (head === SLICE) {
      out.append(reader.take(reader.varint()));
      continue;
    }
    if (head > SLICE) throw new ProtocolViolation("an unknown item in a datagram");
    const choice = head & 0x04 ? reader.varint() : 0;
    referenceUs += reader.varint();
    const numTokens = head & 0x08 ? reader.varint() : 1;
    if (numTokens > reader.data.length - reader.position) {
      throw new ProtocolViolation("more tokens than bytes in a datagram");
    }
    const tokens = Array.from({ length: numTokens }, () => reader.varint());
    let size = head >> 4;
    if (size === LONG_TEXT) size += reader.varint();
    putFrame(out, choice, head & 0x03, reader.take(size), tokens, referenceUs);
  }
  return out.view();
}

/** Append a frame without payload, as the log's own bytes. */
function putFrame(out, choice, channel, text, tokens, atUs) {
  const body = new Bytes();
  putArrayHead(body, 6);
  putWhole(body, choice);
  body.push(channel);
  putTextHead(body, text.length);
  body.append(text);
  putArrayHead(body, tokens.length);
  for (const token of tokens) putWhole(body, token);
  putWhole(body, atUs);
  body.push(0xc0);
  putVarint(out, body.length);
  out.append(body.view());
}
