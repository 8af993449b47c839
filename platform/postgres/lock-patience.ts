import type { Statement } from "#platform/postgres/database.ts";

/** How long the statements behind it, in the same transaction, wait for a lock: past it they fail with what `isGivenUpWaiting` knows. */
export const lockPatience = (ms: number): Statement => ({
  name: "lock patience",
  text: "SELECT set_config('lock_timeout', $1, true)",
  values: [String(ms)],
});
