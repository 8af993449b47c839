import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { type Rejection, reject } from "#platform/rejection.ts";
import { resource } from "#platform/resource.ts";
import { CallError } from "#platform/rpc/call-error.ts";

/** What stands in front is looked at; what comes behind only makes it stronger. */
const LOOKED_AT_MAX = 40;
/** Of 0 to 4: against who has the hash of the password, and tries fast (zxcvbn). */
const SCORE_MIN = 3;
const WAITING_MAX = 64;
/** The first one waits for the dictionaries as well. */
const ANSWER_MS = 10_000;

/** What the thread is asked, and what it answers. */
export type Estimate = { readonly id: number; readonly password: string; readonly own: readonly string[] };
export type Estimated = { readonly id: number; readonly score: number };

export type Strength = {
  /**
   * Why a password won't do: it is among those that many have, or is put together from such, from words, names, keys beside each
   * other, dates, or from `own`, which an attacker knows (NIST SP 800-63B, 5.1.1.2). Length is the contract's affair. Rejects where too
   * many wait.
   */
  weakness(password: string, own: readonly string[]): Promise<Rejection | undefined>;
  close(): Promise<void>;
};

/** Estimates how hard passwords are to guess beside the event loop, in a thread that begins when it is first asked. */
export const strength = resource("auth.strength", { open: () => openStrength(), close: (opened) => opened.close() });

export function openStrength(): Strength {
  let line: Line | undefined;
  let asked = 0;
  const estimate = async (password: string, own: readonly string[]): Promise<number> => {
    if (line === undefined || line.isBroken) line = openLine();
    if (line.waiting.size >= WAITING_MAX)
      throw new CallError("RESOURCE_EXHAUSTED", "overloaded", "Too many passwords are being looked at; try again later.", {
        retryAfterMs: 2_000,
      });
    asked += 1;
    return line.ask({ id: asked, password, own });
  };
  return {
    async weakness(password, own) {
      const parts = own.flatMap(partsOf).filter(({ length }) => length > 2);
      const score = await estimate(password.slice(0, LOOKED_AT_MAX), parts);
      return score >= SCORE_MIN
        ? undefined
        : reject("weak_password", "The password is too easy to guess: take one of several unusual words.");
    },
    async close() {
      await line?.worker.terminate();
    },
  };
}

/** All of it, what stands before the @, and its words, each as far as a password is looked at. */
const partsOf = (text: string): string[] =>
  [text, text.split("@")[0] ?? "", ...text.split(/[^\p{L}\p{N}]+/u)].map((part) => part.slice(0, LOOKED_AT_MAX));

type Line = {
  readonly worker: Worker;
  readonly waiting: ReadonlyMap<number, unknown>;
  readonly isBroken: boolean;
  ask(estimate: Estimate): Promise<number>;
};

/** A thread, and who waits for its answers. One that ends, or takes too long, fails them all, and another takes its place. */
function openLine(): Line {
  const worker = new Worker(join(import.meta.dirname, "strength-worker.ts"));
  worker.unref();
  const waiting = new Map<number, { readonly answer: (score: number) => void; readonly fail: (error: Error) => void }>();
  let isBroken = false;
  const breakOff = (cause: unknown): void => {
    isBroken = true;
    for (const { fail } of waiting.values())
      fail(new CallError("UNAVAILABLE", "unavailable", "The password can't be looked at now; try again later.", { cause }));
    waiting.clear();
    void worker.terminate();
  };
  worker.on("message", ({ id, score }: Estimated) => {
    waiting.get(id)?.answer(score);
    waiting.delete(id);
  });
  worker.on("error", breakOff);
  worker.on("exit", () => breakOff(new Error("the thread that looks at passwords has ended")));
  return {
    worker,
    waiting,
    get isBroken() {
      return isBroken;
    },
    ask(estimate) {
      return new Promise((answer, fail) => {
        const late = setTimeout(() => breakOff(new Error(`a password took longer than ${ANSWER_MS} ms`)), ANSWER_MS);
        const done =
          <T>(then: (value: T) => void) =>
          (value: T): void => {
            clearTimeout(late);
            then(value);
          };
        waiting.set(estimate.id, { answer: done(answer), fail: done(fail) });
        worker.postMessage(estimate);
      });
    },
  };
}
