import type { Statement } from "#platform/postgres/database.ts";
import { parameter } from "#platform/postgres/parameters.ts";
import type { Sendable } from "#platform/postgres/round-trip.ts";

/** Prepared statements a connection; more of them are sent unprepared. */
const PREPARED_MAX = 1_000;

/** Throws for a value that can't be sent. */
export type MakeSendable = (statement: Statement) => Sendable;

/** Statements as they go out. Prepared ones get a name from their text, since one name may stand for several. */
export function sendables(preparesStatements: boolean): MakeSendable {
  const names = new Map<string, string>();
  const nameOf = (text: string): string | undefined => {
    let name = names.get(text);
    if (name === undefined && names.size < PREPARED_MAX) {
      name = `p${names.size}`;
      names.set(text, name);
    }
    return name;
  };
  return ({ text, values, name }) => ({
    text,
    values: values?.map(parameter) ?? [],
    name: preparesStatements && name !== undefined ? nameOf(text) : undefined,
  });
}
