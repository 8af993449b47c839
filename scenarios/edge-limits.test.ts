import { Pool } from "undici";
import { afterAll, describe, expect, test } from "vitest";
import { type PolisChild, startPolisChild } from "./support/polis-child.ts";
import { testDatabases } from "./support/test-databases.ts";

/* Three gateways, each a process of its own, hold one limit. What they would call isn't there: who is counted is told so before. */

const REQUESTS = 600;
const WINDOW_MS = 2_000;
/** What a window's last part costs who never pauses. */
const CYCLE_MS = WINDOW_MS * 1.05;
const databases = await testDatabases();
const children: PolisChild[] = [];
afterAll(async () => {
  for (const child of children) child.signal("SIGKILL");
  await Promise.all(children.map(({ ended }) => ended));
});

async function startThree(environment: Readonly<Record<string, string>>): Promise<Pool[]> {
  const started = [0, 0, 0].map(() =>
    startPolisChild(["--services", "gateway"], {
      ...databases.environment,
      POLIS_IDENTITY: "header",
      POLIS_PROXIES: "127.0.0.1",
      LIMIT_PER_ADDRESS: `${REQUESTS}/${WINDOW_MS / 1000}s`,
      ...environment,
    }),
  );
  children.push(...started);
  const pools = (await Promise.all(started.map(({ ready }) => ready))).map(({ http }) => new Pool(http, { connections: 32 }));
  afterAll(async () => void (await Promise.all(pools.map((pool) => pool.destroy()))));
  return pools;
}

/** Sends as many as should have been sent until then; resolves with when each was, that was let through, and was answered. */
async function drive(
  gateways: readonly Pool[],
  address: string,
  dueUntil: (elapsedMs: number) => number,
): Promise<(readonly [number, number])[]> {
  const passed: (readonly [number, number])[] = [];
  const under: Promise<void>[] = [];
  const beganMs = performance.now();
  const since = (): number => performance.now() - beganMs;
  const one = async (gateway: Pool): Promise<void> => {
    const sentMs = since();
    const { statusCode, body } = await gateway.request({ path: "/orders", method: "GET", headers: { "x-forwarded-for": address } });
    await body.dump();
    if (statusCode === 401) passed.push([sentMs, since()]);
    else expect(statusCode).toBe(429);
  };
  let sent = 0;
  while (since() < 3 * CYCLE_MS) {
    for (const due = dueUntil(since()); sent < due; sent++) under.push(one(gateways[sent % gateways.length] as Pool));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await Promise.all(under);
  return passed;
}

/** At the least so many in one window: those that were sent and answered within it. */
function mostInWindow(passed: readonly (readonly [number, number])[]): number {
  return Math.max(
    ...passed.map(([fromMs]) => passed.filter(([sentMs, answeredMs]) => sentMs >= fromMs && answeredMs < fromMs + WINDOW_MS).length),
  );
}

const onRedis =
  process.env.REDIS_URL === undefined
    ? []
    : [["Redis", { REDIS_URL: process.env.REDIS_URL, REDIS_PREFIX: `test.${crypto.randomUUID()}.` }] as const];

describe.each([["PostgreSQL", { REDIS_URL: "" }] as const, ...onRedis])("with the limits in %s", (name, environment) => {
  const gateways = startThree(environment);

  test.each([
    ["steady, twice as high", (ms: number) => (2 * REQUESTS * ms) / WINDOW_MS],
    ["in bursts, each of as much as the limit", (ms: number) => REQUESTS * (1 + Math.floor(ms / 700))],
  ])("three gateways hold a limit within a twentieth under a load that is %s", async (kind, load) => {
    const passed = await drive(await gateways, `203.0.113.${name.length + kind.length}`, load);
    expect(mostInWindow(passed)).toBeLessThanOrEqual(REQUESTS * 1.05);
    expect(passed.filter(([sentMs]) => sentMs < 2 * CYCLE_MS).length / 2).toBeGreaterThanOrEqual(REQUESTS * 0.95);
  });
});
