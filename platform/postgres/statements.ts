import { hash } from "node:crypto";
import type { Statement } from "#platform/postgres/database.ts";
import { parameter } from "#platform/postgres/parameters.ts";
import type { Sendable } from "#platform/postgres/round-trip.ts";

/** Prepared statements a connection; more of them are sent unprepared. */
const PREPARED_MAX = 1_000;

/** Throws for a value that can't be sent. */
export type MakeSendable = (statement: Statement) => Sendable;

/**
 * Statements as they go out. Prepared ones are named by a digest of their text: one of our names may stand for several, and where
 * a pooler lends a session to others, a name that they have prepared must never stand for another statement than ours.
 */
export function sendables(isPrepared: () => boolean): MakeSendable {
  const names = new Map<string, string>();
  const nameOf = (text: string): string | undefined => {
    let name = names.get(text);
    if (name === undefined && names.size < PREPARED_MAX) {
      name = `p${hash("sha256", text, "base64url").slice(0, 22)}`;
      names.set(text, name);
    }
    return name;
  };
  return ({ text, values, name }) => ({
    text,
    values: values?.map(parameter) ?? [],
    name: isPrepared() && name !== undefined ? nameOf(text) : undefined,
  });
}
