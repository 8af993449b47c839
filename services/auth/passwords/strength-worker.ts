// Estimates how hard passwords are to guess, in a thread of its own: one takes up to a tenth of a second.
import { parentPort } from "node:worker_threads";
import { ZxcvbnFactory } from "@zxcvbn-ts/core";
import { adjacencyGraphs, dictionary as common } from "@zxcvbn-ts/language-common";
import { dictionary as english } from "@zxcvbn-ts/language-en";
import type { Estimate, Estimated } from "./strength.ts";

/**
 * Ways to read `p4$$w0rd` that are looked at. Each is another pass over the dictionaries: a hundred, which the library takes unless told
 * otherwise, are a second or two for who writes in such letters alone.
 */
const LEET_READINGS_MAX = 8;

const estimator = new ZxcvbnFactory({
  dictionary: { ...common, ...english },
  graphs: adjacencyGraphs,
  l33tMaxSubstitutions: LEET_READINGS_MAX,
});

parentPort?.on("message", ({ id, password, own }: Estimate) => {
  const { score } = estimator.check(password, [...own]);
  parentPort?.postMessage({ id, score } satisfies Estimated);
});
