import { describe, expect, test } from "vitest";
import { policyOf, type Quota } from "#platform/edge/quota.ts";
import { SharedLimit } from "#platform/edge/shared-limit.ts";
import { StoreLine } from "#platform/edge/store-line.ts";
import { type KvEngine, KvUnavailable } from "#platform/kv/engine.ts";
import { guardOf } from "#platform/kv/guard.ts";
import { limit } from "#platform/kv/kinds.ts";
import { kvMigrations } from "#platform/kv/kv-engine.testing.ts";
import { postgresEngine } from "#platform/kv/postgres-engine.ts";
import { isRedisThere, openTestRedis, testRedis } from "#platform/kv/redis.testing.ts";
import { testDatabase } from "#platform/postgres/database.testing.ts";
import { loggedLines } from "#platform/telemetry/logged-lines.testing.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

const WINDOW_MS = 1_000;
/** What a window's last part costs who never pauses. */
const CYCLE_MS = WINDOW_MS * 1.05;

type Gateway = { readonly limit: SharedLimit; readonly metrics: Metrics; readonly logged: ReturnType<typeof loggedLines>["logged"] };

/** A gateway's limit; its own clock may be off. */
function gatewayOn(
  engine: KvEngine,
  { requests, aheadMs = 0, keysMax = 1_000 }: { requests: number; aheadMs?: number; keysMax?: number },
): Gateway {
  const metrics = new Metrics();
  const { log, logged } = loggedLines();
  const kind = limit("test.requests", { limit: requests, windowMs: WINDOW_MS, whenAway: "open" });
  const nowMs = (): number => performance.now() + aheadMs;
  const dropped = metrics.counter("dropped", "test", []);
  return {
    metrics,
    logged,
    limit: new SharedLimit({
      policy: policyOf("test", { requests, windowMs: WINDOW_MS }),
      store: kind.open({ engine, guard: guardOf(kind, metrics) }),
      line: new StoreLine({ log, metrics, nowMs }),
      nowMs,
      keysMax,
      onDropped: (count) => dropped.inc(count),
    }),
  };
}

const tick = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 2));

/** Requests as they come, by how many should have come until then; resolves with the times of those that were let through. */
async function drive(
  gateways: readonly Gateway[],
  forMs: number,
  dueUntil: (elapsedMs: number) => number,
  key = "client",
): Promise<number[]> {
  const passed: number[] = [];
  const beganMs = performance.now();
  const under: Promise<void>[] = [];
  let sent = 0;
  for (let elapsedMs = 0; elapsedMs < forMs; elapsedMs = performance.now() - beganMs) {
    for (const due = dueUntil(elapsedMs); sent < due; sent++) {
      const { limit: one } = gateways[sent % gateways.length] as Gateway;
      const askedMs = performance.now() - beganMs;
      const quota = one.take(key);
      // What is answered at once was let through then, and not when the burst that it came with is over.
      if (quota instanceof Promise) under.push(quota.then((late) => void (late.isTaken && passed.push(performance.now() - beganMs))));
      else if (quota.isTaken) passed.push(askedMs);
    }
    await tick();
  }
  await Promise.all(under);
  return passed.sort((a, b) => a - b);
}

/** The most in any window. */
function mostInWindow(times: readonly number[]): number {
  let most = 0;
  let from = 0;
  for (const [n, time] of times.entries()) {
    while ((times[from] as number) <= time - WINDOW_MS) from++;
    most = Math.max(most, n - from + 1);
  }
  return most;
}

const isTaken = ({ isTaken: is }: Quota): boolean => is;

function sentences(open: () => Promise<KvEngine>): void {
  const three = async (requests: number, aheadMs: readonly number[] = []): Promise<Gateway[]> => {
    const engine = await open();
    return [0, 1, 2].map((n) => gatewayOn(engine, { requests, aheadMs: aheadMs[n] ?? 0 }));
  };

  test("three gateways hold a limit within a twentieth under a load that is steady, and twice as high", async () => {
    const requests = 600;
    const passed = await drive(await three(requests), 3 * CYCLE_MS, (ms) => (2 * requests * ms) / WINDOW_MS);
    expect(mostInWindow(passed)).toBeLessThanOrEqual(requests * 1.05);
    expect(passed.filter((ms) => ms < 2 * CYCLE_MS).length / 2).toBeGreaterThanOrEqual(requests * 0.95);
  });

  test("so they do under bursts, each of as much as the limit", async () => {
    const requests = 600;
    const passed = await drive(await three(requests), 3 * CYCLE_MS, (ms) => requests * (1 + Math.floor(ms / 350)));
    expect(mostInWindow(passed)).toBeLessThanOrEqual(requests * 1.05);
    expect(passed.filter((ms) => ms < 2 * CYCLE_MS).length / 2).toBeGreaterThanOrEqual(requests * 0.95);
  });

  test("who stays a seventh below a limit is never refused", async () => {
    const requests = 600;
    const load = (ms: number): number => (0.85 * requests * ms) / WINDOW_MS;
    let sent = 0;
    const passed = await drive(await three(requests), 2.5 * CYCLE_MS, (ms) => (sent = Math.ceil(load(ms))));
    expect(sent).toBeGreaterThan(load(2 * CYCLE_MS));
    expect(passed).toHaveLength(sent);
  });

  test("a limit that is small is exact, however many come at once", async () => {
    const gateways = await three(20);
    const passed = await drive(gateways, 2 * CYCLE_MS, (ms) => 60 + ms / 2);
    expect(mostInWindow(passed)).toBe(20);
  });

  test("gateways whose clocks differ hold it all the same", async () => {
    const requests = 600;
    const gateways = await three(requests, [0, 3_600_000, 333]);
    const passed = await drive(gateways, 2 * CYCLE_MS, (ms) => (3 * requests * ms) / WINDOW_MS);
    expect(mostInWindow(passed)).toBeLessThanOrEqual(requests * 1.05);
    expect(passed.filter((ms) => ms < CYCLE_MS).length).toBeGreaterThanOrEqual(requests * 0.95);
  });

  test("who calls rarely costs the store nothing, and who calls often no question for each request", async () => {
    const engine = await open();
    let asked = 0;
    const counted: KvEngine = {
      ...engine,
      take: (...args) => {
        asked += 1;
        return engine.take(...args);
      },
    };
    const { limit: one } = gatewayOn(counted, { requests: 6_000 });
    for (let n = 0; n < 40; n++) expect(await one.take("rare")).toMatchObject({ isTaken: true, left: 6_000 - n - 1 });
    expect(asked).toBe(0);
    for (let n = 0; n < 3_000; n++) await one.take("often");
    expect(asked).toBeGreaterThan(0);
    expect(asked).toBeLessThan(3_000 / 40);
  });

  test("what was refused is refused here until there is room, without a question", async () => {
    const engine = await open();
    let asked = 0;
    const counted: KvEngine = {
      ...engine,
      take: (...args) => {
        asked += 1;
        return engine.take(...args);
      },
    };
    const { limit: one } = gatewayOn(counted, { requests: 5 });
    for (let n = 0; n < 5; n++) expect(isTaken(await one.take("a"))).toBe(true);
    expect(await one.take("a")).toMatchObject({ isTaken: false, left: 0 });
    const before = asked;
    const quota = await one.take("a");
    expect([quota.isTaken, quota.resetMs > 0 && quota.resetMs <= CYCLE_MS, asked]).toEqual([false, true, before]);
    await expect.poll(async () => isTaken(await one.take("a")), { timeout: 3 * CYCLE_MS, interval: 20 }).toBe(true);
  });
}

describe("in PostgreSQL", () =>
  sentences(async () => postgresEngine(await testDatabase({ migrations: [kvMigrations], maxConnections: 8 }), "passing")));
describe.skipIf(!isRedisThere)("in Redis", () => sentences(() => openTestRedis(testRedis())));

describe("where the store", () => {
  const away: Pick<KvEngine, "take"> = { take: () => Promise.reject(new KvUnavailable(new Error("cut"))) };

  test("is away, each gateway holds the limit by itself, tells of it, and never lets everybody through", async () => {
    const gateway = gatewayOn(away as KvEngine, { requests: 300 });
    const passed = await drive([gateway], 2 * CYCLE_MS, (ms) => (3 * 300 * ms) / WINDOW_MS);
    expect(mostInWindow(passed)).toBeLessThanOrEqual(300);
    expect(passed.length).toBeGreaterThanOrEqual(2 * 300 * 0.95);
    expect(await gateway.metrics.text()).toContain("polis_limits_local 1");
    expect(gateway.logged.map(({ msg }) => msg)).toEqual(["limits are counted by each gateway for itself until the store answers again"]);
  });

  test("doesn't answer, nobody waits longer for it than a moment", async () => {
    const gateway = gatewayOn({ take: () => new Promise(() => {}) } as Partial<KvEngine> as KvEngine, { requests: 10 });
    const beganMs = performance.now();
    expect(isTaken(await gateway.limit.take("a"))).toBe(true);
    expect(performance.now() - beganMs).toBeLessThan(1_000);
    const answers = await Promise.all(Array.from({ length: 20 }, () => gateway.limit.take("a")));
    expect(answers.filter(isTaken)).toHaveLength(9);
  });

  test("goes and comes back, three gateways let through no more than one more limit each, and then hold it together again", async () => {
    const engine = postgresEngine(await testDatabase({ migrations: [kvMigrations], maxConnections: 8 }), "passing");
    let isAway = false;
    const broken: KvEngine = { ...engine, take: (...args) => (isAway ? away : engine).take(...args) };
    const gateways = [0, 1, 2].map(() => gatewayOn(broken, { requests: 120 }));
    const load = (ms: number): number => (6 * 120 * ms) / WINDOW_MS;
    await drive(gateways, CYCLE_MS / 2, load);
    isAway = true;
    const alone = await drive(gateways, 2 * CYCLE_MS, load);
    expect(mostInWindow(alone)).toBeLessThanOrEqual(3 * 120);
    isAway = false;
    await expect
      .poll(
        async () => {
          await drive(gateways, 10, () => 3);
          return (await Promise.all(gateways.map(({ metrics }) => metrics.text()))).every((text) => text.includes("polis_limits_local 0"));
        },
        { timeout: 5_000 },
      )
      .toBe(true);
    const together = await drive(gateways, 2 * CYCLE_MS, load);
    expect(mostInWindow(together)).toBeLessThanOrEqual(120 * 1.05);
  });
});

test("more clients than may be remembered take the place of those that haven't called for longest, and are counted", async () => {
  const engine = postgresEngine(await testDatabase({ migrations: [kvMigrations] }), "passing");
  const { limit: one, metrics } = gatewayOn(engine, { requests: 600, keysMax: 100 });
  for (let n = 0; n < 1_000; n++) {
    await one.take(`client ${n}`);
    await one.take("faithful");
  }
  expect(one.size).toBeLessThanOrEqual(100);
  expect((await metrics.text()).match(/^dropped (\d+)$/m)?.[1]).toMatch(/^9\d\d$/);
  const quota = await one.take("faithful");
  expect(quota.left).toBeLessThan(600);
});
