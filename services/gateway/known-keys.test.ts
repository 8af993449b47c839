import { expect, test } from "vitest";
import { CallError } from "#platform/rpc/call-error.ts";
import type { Peers } from "#platform/rpc/client.ts";
import { knownKeys } from "./known-keys.ts";

/** auth as a gateway knows it, which says of keys what is told, and a clock that goes when it is told. */
function openKeys() {
  const auth = { asked: 0, version: 1, refuses: undefined as CallError | undefined };
  const heard = { versionMin: 0, nowMs: 0 };
  const peer = (() => ({
    async verifyApiKey() {
      auth.asked += 1;
      if (auth.refuses !== undefined) throw auth.refuses;
      return { id: "key", userId: "owner", roles: [], scopes: ["orders:read"], version: auth.version };
    },
  })) as unknown as Peers;
  const keys = knownKeys(
    peer,
    () => heard.nowMs,
    ({ version }) => version < heard.versionMin,
  );
  return { auth, heard, find: () => keys.find("polis_key").catch((error: CallError) => error.code) };
}

test("auth is asked for a key once, by many at once as well, and again after a minute", async () => {
  const { auth, heard, find } = openKeys();
  await Promise.all([find(), find()]);
  heard.nowMs = 59_000;
  expect(await find()).toMatchObject({ userId: "owner", version: 1 });
  expect(auth.asked).toBe(1);
  heard.nowMs = 60_000;
  await find();
  expect(auth.asked).toBe(2);
});

test("a key whose owner has other roles by now is asked for again at once, not refused for a minute", async () => {
  const { auth, heard, find } = openKeys();
  await find();
  auth.version = 2;
  heard.versionMin = 2;
  expect(await find()).toMatchObject({ version: 2 });
  await find();
  expect(auth.asked).toBe(2);
});

test("a no of auth counts for five seconds, and that it can't be asked for none", async () => {
  const { auth, heard, find } = openKeys();
  auth.refuses = new CallError("UNAVAILABLE", "unavailable", "away");
  expect(await find()).toBe("unavailable");
  auth.refuses = new CallError("UNAUTHENTICATED", "invalid_api_key", "no");
  expect(await find()).toBe("invalid_api_key");
  heard.nowMs = 4_999;
  auth.refuses = undefined;
  expect(await find()).toBe("invalid_api_key");
  expect(auth.asked).toBe(2);
  heard.nowMs = 5_000;
  expect(await find()).toMatchObject({ version: 1 });
});
