import { expect, onTestFinished, test, vi } from "vitest";
import { systemClock } from "#platform/clock.ts";
import { addEntry, addressListOf, type KeptAddresses, removeEntries } from "#platform/edge/address-list.ts";
import { protectedThings, testKv } from "#platform/edge/protection.testing.ts";
import { watchAddresses } from "#platform/edge/watched-addresses.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import { loggedLines } from "#platform/telemetry/logged-lines.testing.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

const openKv = await testKv();
const entry = { isAllowed: false, reason: "", forMs: undefined };

test("a blocked address gets 403 within a second, before all else but health; one that is allowed is spared by general limits", async () => {
  const kept = openKv().of(addressListOf("gateway"));
  const { call, received, metrics } = await protectedThings(openKv, { POLIS_PROXIES: "127.0.0.1", LIMIT_PER_ADDRESS: "1/60s" });
  const get = (address: string, path = "/things") => call("GET", path, { headers: { "x-forwarded-for": address } });
  await addEntry(kept, { ...entry, network: "203.0.113.0/24" }, systemClock);
  await addEntry(kept, { ...entry, network: "198.51.100.1", isAllowed: true }, systemClock);
  await vi.waitFor(async () => expect((await get("203.0.113.9", "/nowhere")).status).toBe(403), 1_000);
  expect((await get("203.0.113.9")).problem()).toMatchObject({ status: 403, code: "address_blocked" });
  expect(received).toEqual([]);
  expect((await get("203.0.113.9", "/healthz")).status).toBe(200);
  expect(await metrics.text()).toMatch(/^polis_blocked_total [2-9]/m);
  for (let n = 0; n < 3; n++) expect((await get("198.51.100.1")).status).toBe(200);
  expect((await get("198.51.100.2")).status).toBe(200);
  expect((await get("198.51.100.2")).status).toBe(429);
  await removeEntries(kept, "203.0.113.0/24", systemClock);
  await vi.waitFor(async () => expect((await get("203.0.113.9")).status).not.toBe(403), 1_000);
});

test("while the store is away the last list goes on, until what is on it expires, and the log says so once", async () => {
  const kept = openKv().of(addressListOf("other"));
  let isAway = false;
  const flaky: KeptAddresses = {
    ...kept,
    get: (key) => (isAway ? Promise.reject(new CallError("UNAVAILABLE", "unavailable", "cut")) : kept.get(key)),
  };
  await addEntry(kept, { ...entry, network: "203.0.113.1" }, systemClock);
  await addEntry(kept, { ...entry, network: "203.0.113.2", forMs: 900 }, systemClock);
  const { log, logged } = loggedLines();
  const watched = await watchAddresses(flaky, { clock: systemClock, log, metrics: new Metrics() });
  onTestFinished(() => watched.close());
  isAway = true;
  expect(watched.standingOf("203.0.113.2")).toBe("blocked");
  await vi.waitFor(() => expect(watched.standingOf("203.0.113.2")).toBe("plain"), 5_000);
  expect(watched.standingOf("203.0.113.1")).toBe("blocked");
  expect(logged.map(({ msg }) => msg)).toEqual(["the list of blocked addresses can't be read: the last one that was goes on"]);
});

test("who changes the list at once with others undoes nothing of theirs", async () => {
  const kept = openKv().of(addressListOf("third"));
  await Promise.all([1, 2, 3, 4, 5].map((n) => addEntry(kept, { ...entry, network: `203.0.113.${n}` }, systemClock)));
  const watched = await watchAddresses(kept, { clock: systemClock, log: loggedLines().log, metrics: new Metrics() });
  onTestFinished(() => watched.close());
  for (const n of [1, 2, 3, 4, 5]) expect(watched.standingOf(`203.0.113.${n}`)).toBe("blocked");
});
