import { availableParallelism } from "node:os";
import { hash, verify } from "@node-rs/argon2";
import { wholeNumber } from "#platform/config/setting-types.ts";
import { setting } from "#platform/config/settings.ts";
import { resource } from "#platform/resource.ts";
import { CallError } from "#platform/rpc/call-error.ts";

/** OWASP's choice for argon2id, which the library makes unless told otherwise: 19 MiB, two passes, one lane. */
const COSTS = { memoryCost: 19_456, timeCost: 2, parallelism: 1 } as const;
const COSTS_TEXT = `$argon2id$v=19$m=${COSTS.memoryCost},t=${COSTS.timeCost},p=${COSTS.parallelism}$`;
/** A few seconds of work. */
const WAITING_MAX = 128;

export type Passwords = {
  /** In the PHC format, with a salt of its own. */
  hash(password: string): Promise<string>;
  /** Takes as long where there is no hash: the time doesn't tell that. */
  verify(password: string, hash: string | undefined): Promise<boolean>;
  /** It was made when costs were others. */
  isOutdated(hash: string): boolean;
};

/**
 * Hashes passwords in threads beside the event loop: few at once, so that the others find a processor, and few that wait. Past that a
 * caller is told to come again.
 */
export const passwords = resource("auth.passwords", {
  settings: {
    atOnce: setting({
      name: "AUTH_HASHES_AT_ONCE",
      type: wholeNumber(1, 64),
      default: undefined,
      text: "passwords that a process hashes at once, 19 MiB each; without it, one less than there are processors",
    }),
  },
  open: async ({ settings: { atOnce = Math.max(1, availableParallelism() - 1) }, metrics }): Promise<Passwords> => {
    const run = fewAtOnce(atOnce);
    const durations = metrics
      .latency("polis_auth_hash_duration_seconds", "Time to hash a password, with the wait for a turn", [])
      .recorder({});
    const measured = async <T>(work: () => Promise<T>): Promise<T> => {
      const startedMs = performance.now();
      try {
        return await run(work);
      } finally {
        durations.observe((performance.now() - startedMs) / 1000);
      }
    };
    const nobodys = await hash("of nobody", COSTS);
    return {
      hash: (password) => measured(() => hash(password, COSTS)),
      verify: (password, known) => measured(async () => (await verify(known ?? nobodys, password)) && known !== undefined),
      isOutdated: (known) => !known.startsWith(COSTS_TEXT),
    };
  },
});

function fewAtOnce(most: number): <T>(work: () => Promise<T>) => Promise<T> {
  const waiting: (() => void)[] = [];
  let running = 0;
  return async (work) => {
    if (running >= most) {
      if (waiting.length >= WAITING_MAX)
        throw new CallError("RESOURCE_EXHAUSTED", "overloaded", "Too many passwords are being checked; try again later.", {
          retryAfterMs: 2_000,
        });
      await new Promise<void>((turn) => waiting.push(turn));
    } else running += 1;
    try {
      return await work();
    } finally {
      // The turn goes to the next; nobody comes in between.
      const next = waiting.shift();
      if (next === undefined) running -= 1;
      else next();
    }
  };
}
