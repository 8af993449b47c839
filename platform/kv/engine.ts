/**
 * What the loss of data means.
 * `durable`  nothing may be lost: they are in PostgreSQL, and an engine in front of it only answers faster.
 * `cache`    they can be had again: where the engine is away, there is nothing in it, and what is put there is gone.
 */
export type Loss = "durable" | "cache";

/** An item of a feed: a name and where it stands; the highest first. */
export type FeedItem = { readonly member: string; readonly score: number };

/** What is in use of a limit. */
export type InUse = {
  /** So much within the window, with what was taken now. */
  readonly used: number;
  /** Milliseconds until the oldest of it is no longer counted; 0 where nothing is. */
  readonly resetMs: number;
};

/** What a limit has answered. */
export type Taken = InUse & { readonly isTaken: boolean };

/** How long something is kept, in milliseconds; undefined: until it is deleted. */
export type Ttl = number | undefined;

/** Bytes by key. */
export type Values = {
  /** In the order of the keys. */
  get(keys: readonly string[]): Promise<(Uint8Array | undefined)[]>;
  set(key: string, value: Uint8Array, ttlMs: Ttl): Promise<void>;
  delete(keys: readonly string[]): Promise<void>;
  /** Sets what isn't there; false where it is. */
  add(key: string, value: Uint8Array, ttlMs: Ttl): Promise<boolean>;
  /** Sets (or, without `to`, deletes) what is exactly `from`; false where it isn't. */
  compareAndSet(key: string, from: Uint8Array, to: Uint8Array | undefined, ttlMs: Ttl): Promise<boolean>;
};

/** Counters with windows. */
export type Windows = {
  /**
   * Takes `amount` where at most `limit` is then in use of any `windowMs`, else nothing. What was taken is counted for the window and
   * up to a twentieth of it more, so that no window ever has more than `limit`. An amount of 0 only looks.
   */
  take(key: string, amount: number, limit: number, windowMs: number): Promise<Taken>;
  /** Forgets what was taken. */
  clear(keys: readonly string[]): Promise<void>;
};

/** Sets of names. */
export type Sets = {
  /** Puts members into a set, each for `ttlMs` from now. */
  addMembers(key: string, members: readonly string[], ttlMs: Ttl): Promise<void>;
  removeMembers(key: string, members: readonly string[]): Promise<void>;
  hasMember(key: string, member: string): Promise<boolean>;
  /** At most `limit` members, in no order. */
  members(key: string, limit: number): Promise<string[]>;
};

/** Names in the order of their scores. */
export type Feeds = {
  /** Puts items into a feed, of which the `keep` highest stay; the whole is kept for `ttlMs` from now. */
  addItems(key: string, items: readonly FeedItem[], keep: number, ttlMs: Ttl): Promise<void>;
  removeItems(key: string, members: readonly string[]): Promise<void>;
  /** At most `limit` items, the highest first, and of the same score the last by name first: those that come after `after`. */
  items(key: string, limit: number, after: FeedItem | undefined): Promise<FeedItem[]>;
};

/**
 * The key-value store as PostgreSQL and Redis both can be it: each operation is atomic, and what has been answered is seen by who asks
 * after it, in whatever process. Every method rejects with `KvUnavailable` where the engine can't be reached; what was to be written
 * may then have been.
 */
export type KvEngine = Values & Windows & Sets & Feeds;

/** An engine that is open. */
export type OpenKvEngine = KvEngine & {
  readonly isReached: boolean;
  /** Another number with each connection that is made. */
  readonly connection: number;
  /** Rejects where it can't be reached. */
  ask(): Promise<void>;
  close(): Promise<void>;
};

/** The engine isn't reached. */
export class KvUnavailable extends Error {
  override readonly name = "KvUnavailable";

  constructor(cause: unknown) {
    super("the key-value store isn't reached", { cause });
  }
}

/** The parts of a window whose counts are kept apart. */
export const WINDOW_PARTS = 20;
