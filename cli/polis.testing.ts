import { spawnSync } from "node:child_process";
import { join } from "node:path";
import type { ClientConfig } from "pg";

/** What a command said, and how it ended. */
export type Said = { readonly status: number | null; readonly stderr: string; readonly lines: readonly string[] };

/** A command of `polis` in a process of its own, with the databases of these services at their connections and nothing else set. */
export function polisOn(databases: { readonly [service: string]: ClientConfig }, command: string): (...args: string[]) => Said {
  const urls = Object.entries(databases).map(([service, { user, password, database, host, port }]) => {
    const url = new URL(`postgres://${user}:${encodeURIComponent(String(password))}@localhost:${port}/${database}`);
    url.searchParams.set("host", String(host));
    return [`POSTGRES_URL_${service.toUpperCase()}`, url.href];
  });
  const { PATH = "" } = process.env;
  const env = { PATH, ...Object.fromEntries(urls), NODE_COMPILE_CACHE: join(import.meta.dirname, "..", "node_modules/.cache/compile") };
  return (...args) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [join(import.meta.dirname, "main.ts"), command, ...args], {
      encoding: "utf8",
      env,
    });
    return { status, stderr, lines: stdout.split("\n").slice(0, -1) };
  };
}
