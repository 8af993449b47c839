import { setTimeout as sleep } from "node:timers/promises";

/**
 * Waits until `look` returns something other than undefined or false, and returns it; what it throws counts as not yet.
 * Throws after `withinMs`, saying `what` was waited for and what was seen last.
 */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined | false> | T | undefined | false,
  { withinMs = 20_000, everyMs = 10, seen = () => "" }: { withinMs?: number; everyMs?: number; seen?: () => string } = {},
): Promise<T> {
  const endsAtMs = performance.now() + withinMs;
  let cause: unknown;
  for (;;) {
    try {
      const found = await look();
      if (found !== undefined && found !== false) return found;
      cause = undefined;
    } catch (error) {
      cause = error;
    }
    if (performance.now() > endsAtMs) throw new Error(`waited ${withinMs} ms in vain: ${what} ${seen()}`.trim(), { cause });
    await sleep(everyMs);
  }
}
