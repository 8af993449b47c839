import { setTimeout as sleep } from "node:timers/promises";
import { Client, type ClientConfig, escapeIdentifier } from "pg";
import { sqlState } from "#platform/postgres/errors.ts";

/** What a session of the database may do, in milliseconds: a process that freezes must hold nothing for long. */
export type SessionLimits = { readonly statementMs: number; readonly idleInTransactionMs: number; readonly lockMs: number };

export const sessionLimits: SessionLimits = { statementMs: 30_000, idleInTransactionMs: 5_000, lockMs: 10_000 };

const TRIES_MAX = 20;
const PAUSE_MS = 50;

/**
 * Makes the database `name` unless it is there, with time limits for its sessions: on the database, because poolers refuse
 * them in a connection's startup. A limit that somebody has set already stays. Several may do this at once.
 * @param admin a connection to another database of the server, as somebody who may create databases.
 */
export async function ensureDatabase(admin: ClientConfig, name: string, limits: SessionLimits = sessionLimits): Promise<void> {
  const client = new Client(admin);
  // An end of the connection rejects what runs on it.
  client.on("error", () => undefined);
  await client.connect();
  try {
    const { rowCount } = await client.query("SELECT FROM pg_database WHERE datname = $1", [name]);
    if (rowCount === 0) await create(client, name);
    await limitSessions(client, name, limits);
  } finally {
    await client.end();
  }
}

async function create(client: Client, name: string): Promise<void> {
  try {
    // Nobody can be connected to template0, which would make this fail.
    await client.query(`CREATE DATABASE ${escapeIdentifier(name)} TEMPLATE template0 ENCODING 'UTF8'`);
  } catch (error) {
    // Another starter was faster: 42P04 when it had finished, 23505 when it was about to.
    if (!["42P04", "23505"].includes(sqlState(error) ?? "")) throw error;
  }
}

/** Sets the limits that the database doesn't have yet. They hold for sessions that begin afterwards. */
export async function limitSessions(client: Client, name: string, limits: SessionLimits): Promise<void> {
  const wanted = {
    statement_timeout: limits.statementMs,
    idle_in_transaction_session_timeout: limits.idleInTransactionMs,
    lock_timeout: limits.lockMs,
  };
  for (let tries = 1; ; tries++) {
    try {
      const { rows } = await client.query<{ setting: string }>(
        "SELECT unnest(setconfig) AS setting FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE datname = $1 AND setrole = 0",
        [name],
      );
      const set = rows.map(({ setting }) => setting.split("=")[0]);
      for (const [setting, ms] of Object.entries(wanted))
        if (!set.includes(setting)) await client.query(`ALTER DATABASE ${escapeIdentifier(name)} SET ${setting} = ${ms}`);
      return;
    } catch (error) {
      // "tuple concurrently updated" (XX000), or the same as a unique violation: another starter sets them as well.
      if (tries === TRIES_MAX || !["XX000", "23505"].includes(sqlState(error) ?? "")) throw error;
      await sleep(PAUSE_MS);
    }
  }
}
