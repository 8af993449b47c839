import type { Database } from "#platform/postgres/database.ts";

/** How long a part may take to answer. */
const ANSWER_MS = 2_000;
/** An answer is good for so long. */
const FRESH_MS = 500;

/** Something on which the work of a process depends. */
export type Part = {
  readonly name: string;
  /** Without it, the process isn't ready; else it is, and does without. */
  readonly isNeeded: boolean;
  /** Rejects, or takes its time, where it can't be reached. */
  ask(): Promise<unknown>;
};

/** A database that the process can't do without. */
export const databasePart = (database: Database): Part => ({
  name: database.name,
  isNeeded: true,
  ask: () => database.query({ text: "SELECT 1" }),
});

type State = "ok" | "unreachable";

/**
 * Whether the parts of a process can be reached. However many want to know, each part is asked by one question at a time: what that
 * waits for, the others would wait for as well.
 */
export function readinessOf(parts: readonly Part[]): () => Promise<{ readonly ready: boolean; readonly checks: Record<string, State> }> {
  const checks = parts.map((part) => ({ ...part, check: sharedCheck(part) }));
  return async () => {
    const states = await Promise.all(checks.map(async ({ name, isNeeded, check }) => ({ name, isNeeded, state: await check() })));
    return {
      ready: states.every(({ isNeeded, state }) => !isNeeded || state === "ok"),
      checks: Object.fromEntries(states.map(({ name, state }) => [name, state])),
    };
  };
}

function sharedCheck(part: Part): () => Promise<State> {
  let answer: Promise<State> | undefined;
  const begin = (): Promise<State> =>
    new Promise((resolve) => {
      const late = setTimeout(resolve, ANSWER_MS, "unreachable");
      const answered = (state: State): void => {
        clearTimeout(late);
        resolve(state);
        setTimeout(() => {
          answer = undefined;
        }, FRESH_MS).unref();
      };
      Promise.resolve()
        .then(() => part.ask())
        .then(
          () => answered("ok"),
          () => answered("unreachable"),
        );
    });
  return () => {
    answer ??= begin();
    return answer;
  };
}
