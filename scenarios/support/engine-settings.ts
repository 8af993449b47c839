import type { ClientConfig } from "pg";
import { urlOf } from "#platform/postgres/connection-url.testing.ts";

/** The settings by which a database is reached through the pooler that the environment names and around it; directly where it names none. */
export function databaseSettings(
  names: { readonly url: string; readonly directUrl: string },
  connection: ClientConfig,
): Readonly<Record<string, string>> {
  const { POSTGRES_URL, POSTGRES_DIRECT_URL } = process.env;
  if (POSTGRES_URL === undefined || POSTGRES_DIRECT_URL === undefined) return { [names.url]: urlOf(connection) };
  const pooled = new URL(POSTGRES_URL);
  pooled.pathname = `/${connection.database}`;
  return { [names.url]: pooled.href, [names.directUrl]: urlOf(connection) };
}

/** The event log and the schema registry that the environment names, with a prefix in front of the names of topics and groups; empty where it names none. */
export function eventLogSettings(prefix: string): Readonly<Record<string, string>> {
  const said = Object.entries(process.env).filter((entry): entry is [string, string] => /^(KAFKA|SCHEMA_REGISTRY)_/.test(entry[0]));
  return said.length === 0 ? {} : { ...Object.fromEntries(said), KAFKA_PREFIX: prefix };
}
