/** A WebTransport session with a gateway: answers that are read by datagrams (docs/transport.md). */

import { StreamReader, encodeMessage } from "./bytes.js";
import { HeadstartError, ProtocolViolation } from "./errors.js";
import { Reading } from "./reading.js";
import { within } from "./waiting.js";
import { decodeSnapshot } from "./wire.js";

export const VERSION = 1;

/** Finished answers that are kept, to say again that they are. */
const REMEMBERED = 32;

export class Session {
  /** Why the session ended; null while it is open. */
  closedFor = null;
  /** Set by who gets no answer; what comes takes it back. */
  isDoubted = false;
  #transport;
  #control = null;
  #acks;
  #waitingAcks = new Map();
  #isSending = false;
  #readings = new Map();
  #numbers = 0;

  /** Open a session. `hashes` name the certificates to trust; with none, an authority has to. */
  static async open(url, hashes, timeoutS) {
    const options = hashes.length > 0 ? { serverCertificateHashes: hashes } : {};
    const transport = new WebTransport(url, options);
    transport.closed.catch(() => {});
    try {
      await within(transport.ready, timeoutS);
      const session = new Session(transport);
      await within(session.#greet(), timeoutS);
      return session;
    } catch (error) {
      transport.close();
      throw error;
    }
  }

  constructor(transport) {
    this.#transport = transport;
    const { datagrams } = transport;
    this.#acks = (datagrams.createWritable?.() ?? datagrams.writable).getWriter();
    transport.closed.then(
      () => this.#ended("closed"),
      (error) => this.#ended(String(error)),
    );
    this.#run(this.#readDatagrams());
    this.#run(this.#readPushed());
  }

  /** Whether answers are read by it. */
  get isReading() {
    return [...this.#readings.values()].some(({ isOver }) => !isOver);
  }

  /** Read an answer from its beginning. */
  resume(id, headers) {
    const number = ++this.#numbers;
    this.#forgetOldest();
    const reading = new Reading(number, (stream, ack) => this.#send(stream, ack));
    this.#readings.set(number, reading);
    const path = `/v1/streams/${encodeURIComponent(id)}?after=0`;
    const request = { type: "request", method: "GET", path, headers: Object.entries(headers), number };
    this.#run(this.#ask(reading, request));
    if (this.closedFor !== null) reading.close({ message: this.closedFor, type: "ConnectionError" });
    return reading;
  }

  /** Read an answer no longer; it goes on. */
  drop(reading) {
    if (reading.isWhole) return; // the server may have to hear of it once more
    this.#readings.delete(reading.number);
    reading.close(null);
    if (this.closedFor === null) {
      this.#run(this.#control.write(encodeMessage({ type: "drop", number: reading.number })));
    }
  }

  /** Say of every answer where its reader is. */
  attach() {
    for (const reading of this.#readings.values()) reading.attach();
  }

  /** End the session; answers go on without a reader. */
  close() {
    if (this.closedFor !== null) return;
    this.#ended("closed");
    this.#transport.close();
  }

  async #greet() {
    const stream = await this.#transport.createBidirectionalStream();
    this.#control = stream.writable.getWriter();
    await this.#control.write(encodeMessage({ type: "hello", version: VERSION }));
    this.#run(this.#followControl(stream.readable));
  }

  async #followControl(readable) {
    const messages = new StreamReader();
    for await (const data of parts(readable)) {
      messages.feed(data);
      for (let message; (message = messages.message()) !== null; ) {
        if (message.type === "end") this.#readings.get(message.number)?.ended(message);
        else if (message.type !== "hello") {
          throw new ProtocolViolation("a server's control stream says hello, then end");
        }
      }
    }
  }

  async #ask(reading, request) {
    try {
      const stream = await this.#transport.createBidirectionalStream();
      const writer = stream.writable.getWriter();
      await writer.write(encodeMessage(request));
      await writer.close();
      const messages = new StreamReader();
      for await (const data of parts(stream.readable)) {
        if (reading.answer !== null) continue; // a refusal's body: HTTP will say the same
        messages.feed(data);
        const answer = messages.message();
        if (answer !== null) reading.began(answer);
      }
      if (!reading.answer?.is_carried) reading.close(null);
    } catch (error) {
      reading.close({ message: String(error), type: "ConnectionError" });
      if (error instanceof HeadstartError) throw error;
    }
  }

  async #readDatagrams() {
    for await (const data of parts(this.#transport.datagrams.readable)) {
      this.isDoubted = false;
      let snapshot;
      try {
        snapshot = decodeSnapshot(data);
      } catch {
        continue;
      }
      this.#readings.get(snapshot.stream)?.snapshot(snapshot);
    }
  }

  async #readPushed() {
    for await (const stream of parts(this.#transport.incomingUnidirectionalStreams)) {
      this.#run(this.#readLog(stream));
    }
  }

  /** Read a stretch of a log from a stream of the server's. */
  async #readLog(stream) {
    const head = new StreamReader();
    let found = null;
    try {
      for await (let data of parts(stream)) {
        if (found === null) {
          head.feed(data);
          found = head.numbers(2);
          if (found === null) continue;
          data = head.rest();
        }
        if (data.length > 0) this.#readings.get(found[0])?.caughtUp(found[1], data);
        found[1] += data.length;
      }
    } catch (error) {
      // A stream that the server has reset: the answer's own clock sees to the rest.
      if (error instanceof HeadstartError) throw error;
    }
  }

  /** At most one acknowledgement of each answer waits, the newest. */
  async #send(stream, ack) {
    this.#waitingAcks.set(stream, ack);
    if (this.#isSending) return;
    this.#isSending = true;
    try {
      for (const [number, newest] of this.#waitingAcks) {
        this.#waitingAcks.delete(number);
        await this.#acks.write(newest);
      }
    } catch {
      // The session is over, and `closed` says so.
    } finally {
      this.#isSending = false;
    }
  }

  /** Run what lasts as long as the session; what it throws ends that. */
  #run(work) {
    work.catch((error) => {
      if (this.closedFor !== null) return;
      this.#ended(String(error));
      this.#transport.close({ closeCode: 1, reason: "" });
    });
  }

  #ended(reason) {
    if (this.closedFor !== null) return;
    this.closedFor = reason;
    for (const reading of this.#readings.values()) {
      reading.close({ message: reason, type: "ConnectionError" });
    }
  }

  #forgetOldest() {
    const finished = [...this.#readings.values()].filter((reading) => reading.isOver);
    for (const { number } of finished.slice(0, -REMEMBERED)) this.#readings.delete(number);
  }
}

/** Not every browser can iterate over a stream. */
async function* parts(readable) {
  const reader = readable.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}
