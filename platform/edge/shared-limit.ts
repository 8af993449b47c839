import { LocalWindow } from "#platform/edge/local-window.ts";
import type { Policy, Quota } from "#platform/edge/quota.ts";
import { Recent } from "#platform/edge/recent.ts";
import type { StoreLine } from "#platform/edge/store-line.ts";
import type { LimitOf } from "#platform/kv/kinds.ts";

/**
 * Of a limit, so much a gateway lets through before the store has counted it. Where the limit is smaller than that, the share is none,
 * and each request waits for the store's word.
 */
const SHARES = 60;

/** Who waits for the store's word of one request. */
type Waiting = (quota: Quota) => void;

/** What a gateway knows of one client. */
type Client = {
  /** Requests that were let through and that the store hasn't counted, in this window's length of time and in the one before. */
  uncounted: number;
  uncountedBefore: number;
  period: number;
  /** In use over all gateways, as the store said, until when. */
  used: number;
  usedUntilMs: number;
  refusedUntilMs: number;
  isAsking: boolean;
  waiting: Waiting[];
  /** While the store is away. */
  local: LocalWindow | undefined;
};

/**
 * A limit over all gateways. Most requests don't wait for the store: each gateway lets through a share of the limit on its own, and
 * has the store count it afterwards, once there is half a share of it. So a client that calls rarely costs the store nothing, three
 * gateways let through a twentieth more than the limit at the most, and what is refused is refused here until the store has room.
 */
export class SharedLimit {
  readonly policy: Policy;
  readonly #store: LimitOf;
  readonly #line: StoreLine;
  readonly #nowMs: () => number;
  readonly #share: number;
  readonly #clients: Recent<Client>;

  constructor(options: {
    readonly policy: Policy;
    readonly store: LimitOf;
    readonly line: StoreLine;
    readonly nowMs: () => number;
    readonly keysMax: number;
    readonly onDropped: (count: number) => void;
  }) {
    this.policy = options.policy;
    this.#store = options.store;
    this.#line = options.line;
    this.#nowMs = options.nowMs;
    this.#share = Math.floor(options.policy.requests / SHARES);
    this.#clients = new Recent({ max: options.keysMax, make: newClient, onDropped: options.onDropped });
  }

  /** How many clients are remembered. */
  get size(): number {
    return this.#clients.size;
  }

  /** Counts one request of a client, or refuses it. */
  take(key: string): Quota | Promise<Quota> {
    const client = this.#clients.get(key);
    const nowMs = this.#nowMs();
    if (nowMs < client.refusedUntilMs) return this.#refused(client.refusedUntilMs - nowMs);
    this.#age(client, nowMs);
    if (this.#line.isAway) {
      if (!client.isAsking && this.#line.isDue()) this.#askInBackground(key, client);
      return this.#takeAlone(client, nowMs);
    }
    const uncounted = client.uncounted + client.uncountedBefore + 1;
    if (uncounted <= this.#share) {
      client.uncounted += 1;
      if (!client.isAsking && uncounted * 2 > this.#share) this.#askInBackground(key, client);
      return this.#taken(client, nowMs);
    }
    return new Promise((resolve) => {
      client.waiting.push(resolve);
      if (!client.isAsking) this.#askInBackground(key, client);
    });
  }

  #askInBackground(key: string, client: Client): void {
    client.isAsking = true;
    void this.#askUntilNobodyWaits(key, client);
  }

  async #askUntilNobodyWaits(key: string, client: Client): Promise<void> {
    do await this.#settle(key, client);
    while (client.waiting.length > 0);
    client.isAsking = false;
  }

  /** Has the store count what was let through, and as many more as wait. */
  async #settle(key: string, client: Client): Promise<void> {
    const waiting = client.waiting.splice(0);
    const debt = client.uncounted + client.uncountedBefore;
    const wanted = debt + waiting.length;
    const granted = await this.#takeOfStore(key, client, Math.max(1, wanted));
    const nowMs = this.#nowMs();
    if (granted === undefined) {
      for (const answer of waiting) answer(this.#takeAlone(client, nowMs));
      return;
    }
    client.local = undefined;
    this.#age(client, nowMs);
    const paid = Math.min(granted, debt);
    const ofBefore = Math.min(paid, client.uncountedBefore);
    client.uncountedBefore -= ofBefore;
    client.uncounted = Math.max(0, client.uncounted - (paid - ofBefore));
    for (const [n, answer] of waiting.entries())
      answer(n < granted - paid ? this.#taken(client, nowMs) : this.#refused(client.refusedUntilMs - nowMs));
  }

  /** So much of the limit, or what is left of it; undefined where the store has no word. */
  async #takeOfStore(key: string, client: Client, wanted: number): Promise<number | undefined> {
    const { requests, windowMs } = this.policy;
    let amount = Math.min(wanted, requests);
    // What is left may have gone to another gateway by the second question.
    for (let tries = 0; tries < 3; tries++) {
      const asked = amount;
      const answer = await this.#line.ask(() => this.#store.take(key, asked));
      if (answer === undefined) return undefined;
      const nowMs = this.#nowMs();
      client.used = answer.used;
      client.usedUntilMs = nowMs + windowMs;
      const left = requests - answer.used;
      if (answer.isTaken) {
        if (asked < wanted) client.refusedUntilMs = nowMs + Math.max(1, answer.resetMs);
        return asked;
      }
      if (left <= 0 || tries === 2) {
        client.refusedUntilMs = nowMs + Math.max(1, answer.resetMs);
        return 0;
      }
      amount = left;
    }
    return 0;
  }

  /** By what this gateway has let through itself. */
  #takeAlone(client: Client, nowMs: number): Quota {
    const { requests, windowMs } = this.policy;
    if (client.local === undefined) {
      client.local = new LocalWindow(windowMs, nowMs);
      client.local.add(Math.min(requests, this.#known(client, nowMs)), nowMs);
    }
    if (client.local.used(nowMs) >= requests) {
      client.refusedUntilMs = nowMs + client.local.resetMs(nowMs);
      return this.#refused(client.refusedUntilMs - nowMs);
    }
    client.local.add(1, nowMs);
    client.uncounted += 1;
    return { policy: this.policy, isTaken: true, left: requests - client.local.used(nowMs), resetMs: client.local.resetMs(nowMs) };
  }

  /** What was let through a window ago isn't in use any more, counted or not. */
  #age(client: Client, nowMs: number): void {
    const period = Math.floor(nowMs / this.policy.windowMs);
    if (period === client.period) return;
    client.uncountedBefore = period === client.period + 1 ? client.uncounted : 0;
    client.uncounted = 0;
    client.period = period;
  }

  #known(client: Client, nowMs: number): number {
    return (nowMs < client.usedUntilMs ? client.used : 0) + client.uncounted + client.uncountedBefore;
  }

  #taken(client: Client, nowMs: number): Quota {
    const { policy } = this;
    return { policy, isTaken: true, left: Math.max(0, policy.requests - this.#known(client, nowMs)), resetMs: policy.windowMs };
  }

  #refused(resetMs: number): Quota {
    return { policy: this.policy, isTaken: false, left: 0, resetMs: Math.max(1, resetMs) };
  }
}

const newClient = (): Client => ({
  uncounted: 0,
  uncountedBefore: 0,
  period: 0,
  used: 0,
  usedUntilMs: 0,
  refusedUntilMs: 0,
  isAsking: false,
  waiting: [],
  local: undefined,
});
