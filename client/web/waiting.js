/** Seconds that only go forward. */
export const now = () => performance.now() / 1000;

export const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

export class Signal {
  #promise;
  #resolve;

  constructor() {
    this.#renew();
  }

  set() {
    this.#resolve();
    this.#renew();
  }

  /** Wait until it is set, or so many seconds at most; null is for ever. */
  async wait(seconds = null) {
    if (seconds === null) return this.#promise;
    return within(this.#promise, seconds).catch(() => undefined);
  }

  #renew() {
    this.#promise = new Promise((resolve) => (this.#resolve = resolve));
  }
}

export class TookTooLong extends Error {}

/** Await a promise for so many seconds at most; then a `TookTooLong` is thrown. */
export async function within(promise, seconds) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new TookTooLong()), Math.max(0, seconds) * 1000);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
