import { spawnSync } from "node:child_process";
import { join } from "node:path";
import type { ClientConfig } from "pg";

/** What a command said, and how it ended. */
export type Said = { readonly status: number | null; readonly stderr: string; readonly lines: readonly string[] };

/** A command of `polis` in a process of its own, with the database of orders at this connection and nothing else set. */
export function polisOnOrders({ user, password, database, host, port }: ClientConfig, command: string): (...args: string[]) => Said {
  const url = new URL(`postgres://${user}:${encodeURIComponent(String(password))}@localhost:${port}/${database}`);
  url.searchParams.set("host", String(host));
  const { PATH = "" } = process.env;
  const env = { PATH, POSTGRES_URL_ORDERS: url.href, NODE_COMPILE_CACHE: join(import.meta.dirname, "..", "node_modules/.cache/compile") };
  return (...args) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [join(import.meta.dirname, "main.ts"), command, ...args], {
      encoding: "utf8",
      env,
    });
    return { status, stderr, lines: stdout.split("\n").slice(0, -1) };
  };
}
