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

/**
 * The event log, the schema registry and the broker of tasks that the environment names, with a prefix in front of all names there;
 * empty where it names none.
 */
export function engineSettings(prefix: string): Readonly<Record<string, string>> {
  const said = Object.entries(process.env).filter((entry): entry is [string, string] =>
    /^(KAFKA|SCHEMA_REGISTRY|RABBITMQ)_/.test(entry[0]),
  );
  const prefixes = ["KAFKA", "RABBITMQ"]
    .filter((engine) => process.env[`${engine}_URL`] !== undefined)
    .map((engine) => [`${engine}_PREFIX`, prefix]);
  return Object.fromEntries([...said, ...prefixes]);
}
