/** SHA-256 as bytes come; the browser's own is asynchronous and wants everything at once. */

const ROUNDS = 64;
const [K, START] = constants();

function constants() {
  const primes = [];
  for (let n = 2; primes.length < ROUNDS; n++) {
    if (primes.every((prime) => n % prime)) primes.push(n);
  }
  const fraction = (root) => ((root % 1) * 2 ** 32) | 0;
  return [primes.map((n) => fraction(Math.cbrt(n))), primes.slice(0, 8).map((n) => fraction(Math.sqrt(n)))];
}

export class Sha256 {
  #state = Int32Array.from(START);
  #block = new Uint8Array(64);
  #used = 0;
  #length = 0;
  #words = new Int32Array(ROUNDS);

  update(data) {
    this.#length += data.length;
    for (let at = 0; at < data.length; ) {
      const part = data.subarray(at, at + 64 - this.#used);
      this.#block.set(part, this.#used);
      this.#used += part.length;
      at += part.length;
      if (this.#used === 64) this.#compress();
    }
    return this;
  }

  digest() {
    const bits = this.#length * 8;
    const end = new Uint8Array(((119 - this.#used) % 64) + 9);
    end[0] = 0x80;
    const view = new DataView(end.buffer);
    view.setUint32(end.length - 8, Math.floor(bits / 2 ** 32));
    view.setUint32(end.length - 4, bits);
    this.update(end);
    const out = new DataView(new ArrayBuffer(32));
    this.#state.forEach((word, index) => out.setInt32(4 * index, word));
    return new Uint8Array(out.buffer);
  }

  #compress() {
    const w = this.#words;
    const block = new DataView(this.#block.buffer);
    for (let i = 0; i < 16; i++) w[i] = block.getInt32(4 * i);
    for (let i = 16; i < ROUNDS; i++) {
      const a = w[i - 15];
      const b = w[i - 2];
      const low = turned(a, 7) ^ turned(a, 18) ^ (a >>> 3);
      w[i] = w[i - 16] + low + w[i - 7] + (turned(b, 17) ^ turned(b, 19) ^ (b >>> 10));
    }
    let [a, b, c, d, e, f, g, h] = this.#state;
    for (let i = 0; i < ROUNDS; i++) {
      const high = turned(e, 6) ^ turned(e, 11) ^ turned(e, 25);
      const one = (h + high + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0;
      const two = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((word, index) => (this.#state[index] += word));
    this.#used = 0;
  }
}

function turned(word, by) {
  return (word >>> by) | (word << (32 - by));
}
