import { inspect } from "node:util";
import { storableCause } from "#platform/postgres/storable-text.ts";
import { CallError } from "#platform/rpc/call-error.ts";

/**
 * What an event or a task failed by, as text that can be stored: else the parking would fail, again and again, and block the partition.
 * Of a call it says which one failed.
 */
export function causeOf(error: unknown): string {
  const called = error instanceof CallError && error.called !== undefined ? `${error.called}: ` : "";
  return storableCause(error instanceof Error ? `${error.name}: ${called}${error.message}` : inspect(error));
}
