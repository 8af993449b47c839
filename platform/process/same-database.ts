import type { ClientConfig } from "pg";
import type { Database } from "#platform/postgres/database.ts";
import { sqlState } from "#platform/postgres/errors.ts";
import { endSession, openSession } from "#platform/postgres/session.ts";

const CLOSE_MS = 2_000;

/** Throws where what is migrated around a pooler (`direct`) isn't what is worked on through it. `settings` say both. */
export async function assertSameDatabase(database: Database, direct: ClientConfig, settings: string): Promise<void> {
  const session = await openSession(direct);
  try {
    const [through, around] = [await identityOf((text) => database.query({ text })), await identityOf((text) => session.query(text))];
    if (through !== around)
      throw new Error(`${settings} lead to two different databases: ${database.name} would be migrated in one and worked on in the other`);
  } finally {
    await endSession(session, CLOSE_MS);
  }
}

type Ask = (text: string) => Promise<{ readonly rows: { id?: string }[] }>;

/** Of the server and the database in it; undefined where a hosted one doesn't tell. */
async function identityOf(ask: Ask): Promise<string | undefined> {
  try {
    const { rows } = await ask(
      "SELECT system_identifier || ' ' || oid AS id FROM pg_control_system(), pg_database WHERE datname = current_database()",
    );
    return rows[0]?.id;
  } catch (error) {
    if (sqlState(error) === "42501") return undefined;
    throw error;
  }
}
