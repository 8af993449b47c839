import { existsSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startEmbeddedPostgres } from "#platform/postgres/embedded.ts";
import { isRunning } from "#platform/postgres/is-running.ts";
import type { Log } from "#platform/telemetry/log.ts";

/**
 * Ends the servers of runs that were killed, and deletes their folders: a server outlives its Polis, as it should elsewhere. A run's
 * folder lies among the temporary ones and is called `<prefix><pid>-…`.
 */
export async function endLeftServers(prefix: string, log: Log): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const pid = name.startsWith(prefix) ? Number(/^(\d+)-/.exec(name.slice(prefix.length))?.[1]) : Number.NaN;
    if (Number.isNaN(pid) || isRunning(pid)) continue;
    const folder = join(tmpdir(), name);
    try {
      if (existsSync(join(folder, "postgres", "postmaster.pid")))
        await (await startEmbeddedPostgres({ folder, log, durable: false })).stop();
      await rm(folder, { recursive: true, force: true });
    } catch (error) {
      // Another run does the same, or it is another user's.
      log.debug({ err: error, folder }, "a killed run's server is left as it is");
    }
  }
}
