import { Client, type ClientConfig } from "pg";

/** A server that takes connections and answers nothing isn't waited for any longer. */
export const CONNECT_TIMEOUT_MS = 5_000;

/** Opens a session of one's own, outside of any pool. An end of it rejects what runs on it, and nothing else. */
export async function openSession(connection: ClientConfig): Promise<Client> {
  const client = new Client({ keepAlive: true, connectionTimeoutMillis: CONNECT_TIMEOUT_MS, ...connection });
  client.on("error", () => undefined);
  await client.connect();
  return client;
}

/** Ends a session; one whose server doesn't answer is cut off after `ms`. */
export async function endSession(client: Client, ms: number): Promise<void> {
  const cut = setTimeout(() => client.connection.stream.destroy(), ms);
  await client.end().catch(() => undefined);
  clearTimeout(cut);
}
