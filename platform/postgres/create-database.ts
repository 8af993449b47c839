import { setTimeout as sleep } from "node:timers/promises";
import { type Client, type ClientConfig, escapeIdentifier } from "pg";
import { sqlState } from "#platform/postgres/errors.ts";
import { openSession } from "#platform/postgres/session.ts";

/** Settings of the sessions of a database, by their names in PostgreSQL. */
export type SessionSettings = Readonly<Record<string, string | number>>;

export const sessionSettings: SessionSettings = {
  // Milliseconds: a process that freezes must hold nothing for long.
  statement_timeout: 30_000,
  idle_in_transaction_session_timeout: 5_000,
  lock_timeout: 10_000,
  // Our statements go by keys and have one good plan. Left to itself, the server finds the plan for few keys cheaper than the one
  // for any number, and makes it anew each time: half of what a small append costs.
  plan_cache_mode: "force_generic_plan",
};

const TRIES_MAX = 20;
const PAUSE_MS = 50;

/**
 * Makes the database `name` unless it is there, with settings for its sessions: on the database, because poolers refuse
 * them in a connection's startup. What somebody has set already stays. Several may do this at once.
 * @param admin a connection to another database of the server, as somebody who may create databases.
 */
export async function ensureDatabase(admin: ClientConfig, name: string, settings: SessionSettings = sessionSettings): Promise<void> {
  const client = await openSession(admin);
  try {
    const { rowCount } = await client.query("SELECT FROM pg_database WHERE datname = $1", [name]);
    if (rowCount === 0) await create(client, name);
    await setSessions(client, name, settings);
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

/** Sets what the database doesn't have set yet. It holds for sessions that begin afterwards. */
export async function setSessions(client: Client, name: string, settings: SessionSettings): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      const { rows } = await client.query<{ setting: string }>(
        "SELECT unnest(setconfig) AS setting FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE datname = $1 AND setrole = 0",
        [name],
      );
      const set = rows.map(({ setting }) => setting.split("=")[0]);
      for (const [setting, value] of Object.entries(settings))
        if (!set.includes(setting)) await client.query(`ALTER DATABASE ${escapeIdentifier(name)} SET ${setting} = ${value}`);
      return;
    } catch (error) {
      // "tuple concurrently updated" (XX000), or the same as a unique violation: another starter sets them as well.
      if (tries === TRIES_MAX || !["XX000", "23505"].includes(sqlState(error) ?? "")) throw error;
      await sleep(PAUSE_MS);
    }
  }
}
