import { UsageError } from "./command.ts";

const LIMIT_MAX = 10_000;

/** Reads how many lines a list may have. Throws UsageError. */
export function limitOf(text: string): number {
  const limit = /^\d{1,6}$/.test(text) ? Number(text) : 0;
  if (limit < 1 || limit > LIMIT_MAX) throw new UsageError(`--limit must be a number from 1 to ${LIMIT_MAX}`);
  return limit;
}
