/** How many connections one process may hold, over all its databases together. */
export const PROCESS_CONNECTIONS_MAX = 60;

/**
 * Counts the connections of all pools of a process. A pool takes one before it connects and gives it back when the connection
 * is gone. Where none is left, pools are asked to close what they keep idle.
 */
export class ConnectionLimit {
  readonly #pools = new Set<() => boolean>();
  readonly #waiting: (() => void)[] = [];
  #free: number;

  constructor(max: number = PROCESS_CONNECTIONS_MAX) {
    this.#free = max;
  }

  /** Somebody waits: whoever has a connection to spare should close it. */
  get contended(): boolean {
    return this.#waiting.length > 0;
  }

  /** `closeIdle` closes one idle connection if the pool has one, and says whether it did. Returns how to leave. */
  join(closeIdle: () => boolean): () => void {
    this.#pools.add(closeIdle);
    return () => this.#pools.delete(closeIdle);
  }

  /** Resolves when there is room for one more connection; first come, first served. */
  take(): Promise<void> {
    if (this.#free > 0) {
      this.#free -= 1;
      return Promise.resolve();
    }
    const taken = new Promise<void>((resolve) => this.#waiting.push(resolve));
    for (const closeIdle of this.#pools) if (closeIdle()) break;
    return taken;
  }

  give(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free += 1;
    else next();
  }
}

export const processConnectionLimit = new ConnectionLimit();
