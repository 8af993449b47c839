import type { Round } from "./rounds.ts";
import type { BenchServer } from "./server.ts";

/**
 * Keeps `callers` calls going, each caller's next after its last was answered, `until` says otherwise; waits for what is
 * still on its way.
 */
export async function keepCalling(
  callers: number,
  until: { readonly count: number } | { readonly ms: number },
  call: () => Promise<unknown>,
): Promise<{ count: number; elapsedMs: number }> {
  const startedMs = performance.now();
  let count = 0;
  const goesOn = "count" in until ? () => count < until.count : () => performance.now() - startedMs < until.ms;
  const caller = async (): Promise<void> => {
    while (goesOn()) {
      count += 1;
      await call();
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
  return { count, elapsedMs: performance.now() - startedMs };
}

/** A round of operations in this process: their rate, and the CPU that each took of Node and of the server. */
export async function measureHere(
  server: BenchServer | undefined,
  run: () => Promise<{ count: number; elapsedMs: number }>,
): Promise<Round> {
  const node = process.cpuUsage();
  const postgresUs = server?.cpuUs();
  const { count, elapsedMs } = await run();
  const { user, system } = process.cpuUsage(node);
  const nowUs = server?.cpuUs();
  return {
    value: (count / elapsedMs) * 1000,
    nodeUs: (user + system) / count,
    postgresUs: postgresUs === undefined || nowUs === undefined ? undefined : (nowUs - postgresUs) / count,
  };
}
