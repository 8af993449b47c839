import { Client, type ClientConfig } from "pg";
import type { ConnectionLimit } from "#platform/postgres/connection-limit.ts";
import { CONNECT_TIMEOUT_MS } from "#platform/postgres/session.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

/** How long a caller waits for a connection before it is told that there is none. */
const ACQUIRE_TIMEOUT_MS = 10_000;
/** Longer than the server's own limit for a statement: only a frozen server or a dead network meets it. */
const ANSWER_TIMEOUT_MS = 45_000;
/** Idle connections above the first are closed after this. */
const SPARE_IDLE_MS = 1_000;
/** A connection that doesn't close when asked is cut off. */
const CLOSE_TIMEOUT_MS = 2_000;

export type PoolOptions = {
  readonly connection: ClientConfig;
  readonly name: string;
  readonly maxConnections: number;
  readonly limit: ConnectionLimit;
  readonly log: Log;
  readonly metrics: Metrics;
};

type Waiter = { readonly resolve: (client: Client) => void; readonly reject: (error: unknown) => void };
type Idle = { readonly client: Client; readonly sinceMs: number };

/** The connections to one database. At most one is kept idle for long, so that many databases fit one server. */
export class Pool {
  readonly #options: PoolOptions;
  readonly #idle: Idle[] = [];
  readonly #waiting: Waiter[] = [];
  readonly #alive = new Set<Client>();
  readonly #leaveLimit: () => void;
  readonly #stopMeasuring: () => void;
  readonly #gauges: { used: { set(n: number): void }; idle: { set(n: number): void }; waiting: { set(n: number): void } };
  /** Open, being opened, or being closed: what counts against `maxConnections`. */
  #size = 0;
  #opening = 0;
  #sweep: NodeJS.Timeout | undefined;
  #closed: PromiseWithResolvers<void> | undefined;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#leaveLimit = options.limit.join(() => this.#closeOldestIdle());
    const gauge = options.metrics.gauge("polis_pool_connections", "Connections to a database, and callers that wait for one", [
      "database",
      "state",
    ]);
    const database = options.name;
    this.#gauges = {
      used: gauge.labels({ database, state: "used" }),
      idle: gauge.labels({ database, state: "idle" }),
      waiting: gauge.labels({ database, state: "waiting" }),
    };
    this.#stopMeasuring = options.metrics.measureWhenRead(() => this.#measure());
  }

  /** A connection of one's own until `release`; rejects when the server isn't reached or none becomes free in time. */
  acquire(): Promise<Client> {
    if (this.#closed !== undefined) return Promise.reject(new Error(`database ${this.#options.name} is closed`));
    const idle = this.#idle.pop();
    if (idle !== undefined) {
      return Promise.resolve(idle.client);
    }
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        reject(
          new Error(
            `timeout exceeded when trying to connect: no connection to ${this.#options.name} became free in ${ACQUIRE_TIMEOUT_MS} ms`,
          ),
        );
      }, ACQUIRE_TIMEOUT_MS);
      const waiter: Waiter = {
        resolve: (client) => {
          clearTimeout(timer);
          resolve(client);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      };
      this.#waiting.push(waiter);
      this.#openIfNeeded();
    });
  }

  /** Gives a connection back. One that isn't as it was got (a transaction left open, an answer outstanding) is closed. */
  release(client: Client, reusable: boolean): void {
    if (!this.#alive.has(client)) return;
    // One that is cut off still has to end; nobody should get it meanwhile.
    if (reusable && this.#closed === undefined && !client.connection.stream.destroyed) this.#hand(client);
    else this.#end(client);
  }

  /** Waits for what is in use, then closes every connection. */
  close(): Promise<void> {
    if (this.#closed !== undefined) return this.#closed.promise;
    this.#closed = Promise.withResolvers();
    clearTimeout(this.#sweep);
    while (this.#closeOldestIdle());
    if (this.#size === 0) this.#finish();
    return this.#closed.promise;
  }

  #openIfNeeded(): void {
    if (this.#waiting.length > this.#opening && this.#size < this.#options.maxConnections) void this.#open();
  }

  async #open(): Promise<void> {
    const { limit, connection } = this.#options;
    this.#size += 1;
    this.#opening += 1;
    await limit.take();
    if (this.#waiting.length === 0) {
      this.#opening -= 1;
      this.#gone();
      return;
    }
    const client = new Client({
      keepAlive: true,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      query_timeout: ANSWER_TIMEOUT_MS,
      ...connection,
    });
    this.#alive.add(client);
    // Without a listener the process ends when the server goes away. What was running is told by its own rejection.
    client.on("error", (error) => this.#options.log.debug({ err: error, database: this.#options.name }, "connection lost"));
    client.once("end", () => this.#onEnd(client));
    try {
      await client.connect();
      this.#opening -= 1;
      this.#hand(client);
    } catch (error) {
      this.#opening -= 1;
      this.#waiting.shift()?.reject(error);
      this.#end(client);
    }
  }

  #hand(client: Client): void {
    const waiter = this.#waiting.shift();
    if (waiter !== undefined) waiter.resolve(client);
    else if (this.#closed !== undefined || this.#options.limit.contended) this.#end(client);
    else {
      this.#idle.push({ client, sinceMs: performance.now() });
      this.#sweepLater();
    }
  }

  #sweepLater(): void {
    if (this.#sweep !== undefined || this.#idle.length < 2) return;
    this.#sweep = setTimeout(() => {
      this.#sweep = undefined;
      const before = performance.now() - SPARE_IDLE_MS;
      while (this.#idle.length > 1 && (this.#idle[0]?.sinceMs ?? before) <= before) this.#closeOldestIdle();
      this.#sweepLater();
    }, SPARE_IDLE_MS).unref();
  }

  #closeOldestIdle(): boolean {
    const oldest = this.#idle.shift();
    if (oldest === undefined) return false;
    this.#end(oldest.client);
    return true;
  }

  #end(client: Client): void {
    const cut = setTimeout(() => client.connection.stream.destroy(), CLOSE_TIMEOUT_MS);
    client.once("end", () => clearTimeout(cut));
    client.end().catch(() => undefined);
  }

  #onEnd(client: Client): void {
    if (!this.#alive.delete(client)) return;
    const index = this.#idle.findIndex((idle) => idle.client === client);
    if (index >= 0) this.#idle.splice(index, 1);
    this.#gone();
  }

  #gone(): void {
    this.#size -= 1;
    this.#options.limit.give();
    this.#openIfNeeded();
    if (this.#closed !== undefined && this.#size === 0) this.#finish();
  }

  #finish(): void {
    this.#leaveLimit();
    this.#stopMeasuring();
    this.#measure();
    for (const waiter of this.#waiting.splice(0)) waiter.reject(new Error(`database ${this.#options.name} is closed`));
    this.#closed?.resolve();
  }

  #measure(): void {
    this.#gauges.used.set(this.#alive.size - this.#idle.length - this.#opening);
    this.#gauges.idle.set(this.#idle.length);
    this.#gauges.waiting.set(this.#waiting.length);
  }
}
