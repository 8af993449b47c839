import { WINDOW_PARTS } from "#platform/kv/engine.ts";

/** A limit as one process alone keeps it: no window has more than it. */
export class LocalWindow {
  readonly #counts = new Uint32Array(WINDOW_PARTS + 1);
  readonly #partMs: number;
  #part: number;

  constructor(windowMs: number, nowMs: number) {
    this.#partMs = windowMs / WINDOW_PARTS;
    this.#part = Math.floor(nowMs / this.#partMs);
  }

  used(nowMs: number): number {
    const part = Math.floor(nowMs / this.#partMs);
    for (let gone = Math.min(part - this.#part, this.#counts.length); gone > 0; gone--)
      this.#counts[(part - gone + 1) % this.#counts.length] = 0;
    this.#part = Math.max(part, this.#part);
    let sum = 0;
    for (const count of this.#counts) sum += count;
    return sum;
  }

  add(amount: number, nowMs: number): void {
    this.used(nowMs);
    const at = this.#part % this.#counts.length;
    this.#counts[at] = (this.#counts[at] ?? 0) + amount;
  }

  /** Until the oldest that is counted is counted no more. */
  resetMs(nowMs: number): number {
    this.used(nowMs);
    for (let part = this.#part - WINDOW_PARTS; part <= this.#part; part++)
      if ((this.#counts[((part % this.#counts.length) + this.#counts.length) % this.#counts.length] ?? 0) > 0)
        return Math.max(1, (part + this.#counts.length) * this.#partMs - nowMs);
    return 0;
  }
}
