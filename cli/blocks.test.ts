import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { systemClock } from "#platform/clock.ts";
import { addressListOf } from "#platform/edge/address-list.ts";
import { type Standing, watchAddresses } from "#platform/edge/watched-addresses.ts";
import { createKv } from "#platform/kv/kv.ts";
import { postgresEngine } from "#platform/kv/postgres-engine.ts";
import { testDatabaseConnection, testLog } from "#platform/postgres/database.testing.ts";
import { openDatabase } from "#platform/postgres/open-database.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { polisOn } from "./polis.testing.ts";

test("polis blocks lists, adds and removes addresses, which a gateway knows within a second, and refuses what makes no sense", async () => {
  const connection = await testDatabaseConnection([join(import.meta.dirname, "..", "platform", "kv", "migrations")]);
  const polis = polisOn({ kv: connection }, "blocks");
  const metrics = new Metrics();
  await using database = Object.assign(await openDatabase({ connection, name: "test", log: testLog, metrics }), {
    async [Symbol.asyncDispose]() {
      await database.close();
    },
  });
  const kv = createKv({
    kept: postgresEngine(database, "kept"),
    passing: postgresEngine(database, "passing"),
    copies: undefined,
    metrics,
  });
  const watched = await watchAddresses(kv.of(addressListOf("gateway")), { clock: systemClock, log: testLog, metrics });
  const known = (address: string, standing: Standing) => vi.waitFor(() => expect(watched.standingOf(address)).toBe(standing), 1_000);
  try {
    expect(polis("list")).toEqual({ status: 0, stderr: "there are none\n", lines: [] });
    expect(polis("add", "203.0.113.0/24", "--for", "1h", "--reason", "guesses passwords").lines).toEqual(["203.0.113.0/24 is blocked"]);
    await known("203.0.113.77", "blocked");
    polis("add", "2001:DB8:0::/32");
    polis("add", "198.51.100.7", "--allow");
    await known("198.51.100.7", "allowed");
    await known("2001:db8:7::1", "blocked");
    await known("198.51.100.8", "plain");
    expect(polis("list").lines).toEqual([
      expect.stringMatching(/^203\.0\.113\.0\/24 {2}blocked {2}until 20\S+Z {2}guesses passwords$/),
      "2001:db8::/32  blocked  until removed",
      "198.51.100.7  allowed  until removed",
    ]);
    expect(JSON.parse(polis("list", "--json").lines[2] ?? "")).toMatchObject({ network: "198.51.100.7", isAllowed: true, reason: "" });
    expect(polis("remove", "2001:db8::/32").lines).toEqual(["2001:db8::/32 is off the list"]);
    await known("2001:db8:7::1", "plain");
    // For a moment alone.
    polis("add", "192.0.2.1", "--for", "1s");
    await known("192.0.2.1", "blocked");
    await vi.waitFor(() => expect(watched.standingOf("192.0.2.1")).toBe("plain"), 3_000);
    expect(polis("list").lines).toHaveLength(2);
  } finally {
    await watched.close();
  }
  for (const [args, said] of [
    [["remove", "192.0.2.9"], "192.0.2.9 isn't on the list"],
    [["add", "300.1.1.1"], "'300.1.1.1' is no IP address"],
    [["add", "10.0.0.0/33"], "'10.0.0.0/33' is no IP address"],
    [["add"], "'add' needs an ADDRESS"],
    [["add", "10.0.0.1", "--for", "soon"], "--for must be a duration"],
    [["list", "--allow"], "'list' takes no --allow"],
    [["show"], "say list, add or remove"],
  ] as const) {
    const { status, stderr } = polis(...args);
    expect([status === 0, stderr], args.join(" ")).toEqual([false, expect.stringContaining(said)]);
  }
});
