import type { ClientConfig } from "pg";

/** A connection as the URL that a setting takes; a folder of a socket stands in its query. */
export function urlOf({ host = "localhost", port = 5432, user = "", password, database = "postgres" }: ClientConfig): string {
  const url = new URL(`postgres://localhost:${port}/${database}`);
  url.username = user;
  if (typeof password === "string") url.password = password;
  url.searchParams.set("host", host);
  return url.href;
}
