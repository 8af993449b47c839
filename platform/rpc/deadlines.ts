import { AsyncLocalStorage } from "node:async_hooks";

// One timer for all calls of the process. A timer a call would cost as much as the rest of a call in process; nearly every
// call ends long before its deadline, so deadlines lie in buckets by tick, and the timer stands on the earliest one.

const TICK_MS = 8;
/** Node's timers hold no more than 2^31 ms. */
const SLEEP_MS_MAX = 2 ** 30;

export type Timed = {
  /** Milliseconds since the epoch; Infinity: never. */
  readonly deadlineMs: number;
  expire(): void;
};

const buckets = new Map<number, Set<Timed>>();
let watched = 0;
let earliest = Number.POSITIVE_INFINITY;
let timer: NodeJS.Timeout | undefined;

// The timer belongs to no call: what it starts must not see the context of the one that happened to make it.
const outsideOfCalls = AsyncLocalStorage.snapshot();

const tickOf = (deadlineMs: number): number => Math.ceil(deadlineMs / TICK_MS);

/** Calls `expire` at the deadline, at most a tick (8 ms) late, unless `unwatch` is called before. */
export function watch(item: Timed): void {
  if (item.deadlineMs === Number.POSITIVE_INFINITY) return;
  const tick = tickOf(item.deadlineMs);
  const bucket = buckets.get(tick);
  if (bucket === undefined) buckets.set(tick, new Set([item]));
  else bucket.add(item);
  // While nobody waits the timer doesn't keep the process alive.
  if (++watched === 1) timer?.ref();
  if (tick < earliest) arm(tick);
}

export function unwatch(item: Timed): void {
  const tick = tickOf(item.deadlineMs);
  const bucket = buckets.get(tick);
  if (bucket?.delete(item) !== true) return;
  if (bucket.size === 0) buckets.delete(tick);
  if (--watched === 0) timer?.unref();
}

function arm(tick: number): void {
  earliest = tick;
  clearTimeout(timer);
  timer = outsideOfCalls(() => setTimeout(expireDue, Math.min(Math.max(tick * TICK_MS - Date.now(), 1), SLEEP_MS_MAX)));
  if (watched === 0) timer.unref();
}

function expireDue(): void {
  const now = Date.now();
  timer = undefined;
  earliest = Number.POSITIVE_INFINITY;
  let next = Number.POSITIVE_INFINITY;
  for (const [tick, bucket] of buckets) {
    if (tick * TICK_MS > now) next = Math.min(next, tick);
    else {
      buckets.delete(tick);
      watched -= bucket.size;
      for (const item of bucket) item.expire();
    }
  }
  // Who expired may have started something with a deadline of its own.
  if (next < earliest) arm(next);
}
