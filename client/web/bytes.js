/** Bytes and numbers as the gateway writes them: varints, MessagePack, messages on streams. */

import { ProtocolViolation } from "./errors.js";

const MAX_VARINT_BYTES = 9;
const MAX_MESSAGE_BYTES = 64 * 1024;

const utf8 = new TextDecoder("utf-8", { fatal: true });
const encoder = new TextEncoder();

export class Bytes {
  #room = new Uint8Array(256);
  length = 0;

  push(...values) {
    this.append(values);
  }

  append(values) {
    const length = this.length + values.length;
    if (length > this.#room.length) {
      const room = new Uint8Array(Math.max(length, 2 * this.#room.length));
      room.set(this.view());
      this.#room = room;
    }
    this.#room.set(values, this.length);
    this.length = length;
  }

  /** The bytes as they are now; good until the next change. */
  view(start = 0, stop = this.length) {
    return this.#room.subarray(start, stop);
  }

  drop(size) {
    this.#room.copyWithin(0, size, this.length);
    this.length -= size;
  }
}

/** Append a whole number, seven bits a byte, lowest first. */
export function putVarint(out, value) {
  while (value >= 0x80) {
    out.push((value % 0x80) | 0x80);
    value = Math.floor(value / 0x80);
  }
  out.push(value);
}

/** Takes values from the front of `data`. What ends too early throws a `ProtocolViolation`. */
export class Reader {
  constructor(data, position = 0) {
    this.data = data;
    this.position = position;
  }

  get isDone() {
    return this.position === this.data.length;
  }

  byte() {
    if (this.position >= this.data.length) throw new ProtocolViolation("the bytes end too early");
    return this.data[this.position++];
  }

  take(size) {
    const stop = this.position + size;
    if (!(stop <= this.data.length)) throw new ProtocolViolation("the bytes end too early");
    const taken = this.data.subarray(this.position, stop);
    this.position = stop;
    return taken;
  }

  /** Numbers above 2**53 are refused: nothing that a gateway counts gets there. */
  varint() {
    let value = 0;
    for (let scale = 1; ; scale *= 0x80) {
      const byte = this.byte();
      value += (byte & 0x7f) * scale;
      if (value > Number.MAX_SAFE_INTEGER || scale > 2 ** 56) {
        throw new ProtocolViolation("a number is too long");
      }
      if (byte < 0x80) return value;
    }
  }

  /** One MessagePack value of those that token logs hold: null, number, text, bytes, array. */
  value() {
    const head = this.byte();
    if (head < 0x80) return head;
    if (head >= 0xe0) return head - 0x100;
    if (head >= 0xa0 && head < 0xc0) return utf8.decode(this.take(head & 0x1f));
    if (head >= 0x90 && head < 0xa0) return this.#array(head & 0x0f);
    switch (head) {
      case 0xc0: return null;
      case 0xc4: case 0xc5: case 0xc6: return this.take(this.#whole(1 << (head - 0xc4)));
      case 0xcc: case 0xcd: case 0xce: case 0xcf: return this.#whole(1 << (head - 0xcc));
      case 0xd0: case 0xd1: case 0xd2: case 0xd3: return this.#signed(1 << (head - 0xd0));
      case 0xd9: case 0xda: case 0xdb: return utf8.decode(this.take(this.#whole(1 << (head - 0xd9))));
      case 0xdc: case 0xdd: return this.#array(this.#whole(2 << (head - 0xdc)));
      default: throw new ProtocolViolation("not a record of a token log");
    }
  }

  #whole(size) {
    let value = 0;
    for (const byte of this.take(size)) value = value * 0x100 + byte;
    return value;
  }

  #signed(size) {
    const value = this.#whole(size);
    return value >= 2 ** (8 * size - 1) ? value - 2 ** (8 * size) : value;
  }

  #array(size) {
    const values = [];
    for (let left = size; left > 0; left--) values.push(this.value());
    return values;
  }
}

/** Append a number as MessagePack: in one byte if it is small, else in the first width that fits. */
function putHead(out, value, small, numSmall, widths) {
  if (value < numSmall) {
    out.push(small | value);
    return;
  }
  const [width, head] = widths.find(([width]) => value < 2 ** (8 * width));
  out.push(head);
  for (let left = width - 1; left >= 0; left--) out.push(Math.floor(value / 2 ** (8 * left)) % 0x100);
}

export function putWhole(out, value) {
  putHead(out, value, 0, 0x80, [[1, 0xcc], [2, 0xcd], [4, 0xce], [8, 0xcf]]);
}

export function putTextHead(out, size) {
  putHead(out, size, 0xa0, 32, [[1, 0xd9], [2, 0xda], [4, 0xdb]]);
}

export function putArrayHead(out, size) {
  putHead(out, size, 0x90, 16, [[2, 0xdc], [4, 0xdd]]);
}

/** One message of a session's stream: a varint length and so many bytes of JSON. */
export function encodeMessage(message) {
  const body = encoder.encode(JSON.stringify(message));
  const out = new Bytes();
  putVarint(out, body.length);
  out.append(body);
  return out.view();
}

/** Takes numbers and messages from the front of a stream's bytes, as they come. */
export class StreamReader {
  #buffer = new Bytes();

  feed(data) {
    this.#buffer.append(data);
  }

  /** The next whole message, or null. */
  message() {
    const reader = this.#numbers(1);
    if (reader === null) return null;
    const [size] = reader.found;
    if (size > MAX_MESSAGE_BYTES) throw new ProtocolViolation("a message is too long");
    if (reader.position + size > this.#buffer.length) return null;
    let message;
    try {
      message = JSON.parse(utf8.decode(reader.take(size)));
    } catch {
      throw new ProtocolViolation("not a message");
    }
    this.#buffer.drop(reader.position);
    return message;
  }

  /** The next so many numbers, or null until all of them are here. */
  numbers(count) {
    const reader = this.#numbers(count);
    if (reader === null) return null;
    this.#buffer.drop(reader.position);
    return reader.found;
  }

  /** What is left, which is forgotten. */
  rest() {
    const rest = this.#buffer.view().slice();
    this.#buffer.drop(rest.length);
    return rest;
  }

  #numbers(count) {
    const data = this.#buffer.view();
    let ends = 0;
    for (let at = 0; at < Math.min(data.length, count * MAX_VARINT_BYTES) && ends < count; at++) {
      ends += data[at] < 0x80;
    }
    if (ends < count && data.length < count * MAX_VARINT_BYTES) return null;
    const reader = new Reader(data);
    reader.found = Array.from({ length: count }, () => reader.varint());
    return reader;
  }
}
