import { CallError } from "#platform/rpc/call-error.ts";
import type { Context } from "#platform/rpc/context.ts";

/**
 * Lets a few reads of a service at its database at a time, so that however many wait, writes and events find a connection.
 * Who gives up while it waits leaves the queue.
 */
export class ReadGate {
  readonly #atOnce: number;
  readonly #waitingMax: number;
  readonly #waiting = new Set<() => void>();
  #running = 0;

  constructor(atOnce: number, waitingMax: number) {
    this.#atOnce = atOnce;
    this.#waitingMax = waitingMax;
  }

  async run<T>(context: Pick<Context, "signal" | "cancelled">, read: () => Promise<T>): Promise<T> {
    if (this.#running < this.#atOnce) this.#running += 1;
    else await this.#wait(context);
    try {
      return await read();
    } finally {
      this.#next();
    }
  }

  #wait({ signal }: Pick<Context, "signal">): Promise<void> {
    if (this.#waiting.size >= this.#waitingMax)
      throw new CallError("RESOURCE_EXHAUSTED", "overloaded", "Too much is waiting; try again later.", { retryAfterMs: 1000 });
    return new Promise((resolve, reject) => {
      const go = (): void => {
        signal.removeEventListener("abort", leave);
        resolve();
      };
      const leave = (): void => {
        this.#waiting.delete(go);
        reject(signal.reason);
      };
      if (signal.aborted) return reject(signal.reason);
      this.#waiting.add(go);
      signal.addEventListener("abort", leave, { once: true });
    });
  }

  /** Hands the place on, or gives it up. */
  #next(): void {
    const [go] = this.#waiting;
    if (go === undefined) this.#running -= 1;
    else {
      this.#waiting.delete(go);
      go();
    }
  }
}
