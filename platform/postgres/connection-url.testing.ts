import type { ClientConfig } from "pg";

/** A connection as the URL that a setting takes; a folder of a socket stands in its query. */
export function urlOf({ host = "localhost", port = 5432, user = "", password, database = "postgres" }: ClientConfig): string {
  const url = new URL(`postgres://localhost:${port}/${database}`);
  url.username = user;
  if (typeof password === "string") url.password = password;
  url.searchParams.set("host", host);
  return url.href;
}

/** The connection of such a URL, to be had with another database. */
export function connectionOf(url: string): ClientConfig {
  const { hostname, port, username, password, pathname, searchParams } = new URL(url);
  const [user, secret] = [username, password].map(decodeURIComponent);
  const host = searchParams.get("host") ?? hostname;
  return { host, port: Number(port || 5432), user, password: secret, database: pathname.slice(1) || "postgres" };
}
