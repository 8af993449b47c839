import { randomUUID } from "node:crypto";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { userCaller } from "#platform/access/caller.ts";
import { testServices } from "#platform/process/services.testing.ts";
import { authClients, failure, lettersTo, someEmail } from "../auth.testing.ts";
import { authService } from "../service.ts";

const services = await testServices(authService);
const database = services.database("auth");
const { as, register, admin, gateway } = authClients(services);
const inMs = (ms: number) => timestampFromMs(Date.now() + ms);

test("a key speaks for its owner, with the owner's roles and its own scopes", async () => {
  const tokens = await register();
  await admin.setRoles({ userId: tokens.userId, roles: ["support"] });
  const { key, apiKey } = await as(tokens).createApiKey({ name: "export", scopes: ["orders:write", "accounts:read"] });
  expect(key.startsWith(`${apiKey?.prefix}_`)).toBe(true);
  expect(await gateway.verifyApiKey({ key })).toMatchObject({
    id: apiKey?.id,
    userId: tokens.userId,
    roles: ["support"],
    scopes: ["accounts:read", "orders:write"],
    version: 2,
  });
});

test("its secret lies in no row and is never shown again", async () => {
  const tokens = await register();
  const { key } = await as(tokens).createApiKey({ name: "export", scopes: ["orders:read"] });
  const secret = key.split("_").at(-1) as string;
  const { rows } = await database.query<{ all: string }>({ text: "SELECT (SELECT json_agg(k) FROM api_keys k)::text AS all" });
  expect(rows[0]?.all).not.toContain(secret);
  expect(JSON.stringify((await as(tokens).listApiKeys({})).apiKeys, (_, v) => (typeof v === "bigint" ? String(v) : v))).not.toContain(
    secret,
  );
});

test("one whose secret is another's, in which a letter is changed, or that never was, is refused in the same words", async () => {
  const tokens = await register();
  const [{ key: one }, { key: two }] = [
    await as(tokens).createApiKey({ name: "one", scopes: ["orders:read"] }),
    await as(tokens).createApiKey({ name: "two", scopes: ["orders:read"] }),
  ];
  const mixed = `${one.slice(0, 28)}_${two.slice(29)}`;
  const changed = `${one.slice(0, -2)}${one.at(-2) === "A" ? "B" : "A"}${one.at(-1)}`;
  for (const key of [mixed, changed, one.toUpperCase(), one.slice(1), `${one}A`, "x"])
    expect([key, await failure(gateway.verifyApiKey({ key }))]).toEqual([key, "invalid_api_key"]);
  expect(await failure(gateway.verifyApiKey({ key: one }))).toBe("answered");
});

test("a key is over when it is revoked, when its time has come, and while its owner is blocked", async () => {
  const tokens = await register();
  const create = (expiresAt?: ReturnType<typeof inMs>) =>
    as(tokens).createApiKey({ name: "x", scopes: ["orders:read"], ...(expiresAt === undefined ? {} : { expiresAt }) });
  const [revoked, timed, good] = [await create(), await create(inMs(60_000)), await create()];
  const apiKeyId = revoked.apiKey?.id as string;
  for (let times = 0; times < 2; times += 1) await as(tokens).revokeApiKey({ apiKeyId });
  await database.query({ text: "UPDATE api_keys SET expires_at = now() WHERE id = $1", values: [timed.apiKey?.id] });
  for (const { key } of [revoked, timed]) expect(await failure(gateway.verifyApiKey({ key }))).toBe("invalid_api_key");
  expect((await as(tokens).listApiKeys({})).apiKeys.map(({ id }) => id)).toEqual([good.apiKey?.id]);
  expect((await database.query({ text: "SELECT FROM revocations WHERE api_key_id = $1", values: [apiKeyId] })).rowCount).toBe(1);
  expect(await failure(gateway.verifyApiKey({ key: good.key }))).toBe("answered");
  await admin.blockUser({ userId: tokens.userId, reason: "a test" });
  expect(await failure(gateway.verifyApiKey({ key: good.key }))).toBe("invalid_api_key");
});

test("when it was last used is known to the minute", async () => {
  const tokens = await register();
  const { key, apiKey } = await as(tokens).createApiKey({ name: "x", scopes: ["orders:read"] });
  const used = async () => Number((await as(tokens).listApiKeys({})).apiKeys[0]?.lastUsedAt?.seconds ?? 0);
  expect(await used()).toBe(0);
  await gateway.verifyApiKey({ key });
  const first = await used();
  expect(Math.abs(first - Date.now() / 1000)).toBeLessThan(5);
  await database.query({ text: "UPDATE api_keys SET last_used_at = now() - interval '59 s' WHERE id = $1", values: [apiKey?.id] });
  await gateway.verifyApiKey({ key });
  expect(await used()).toBeLessThan(first - 50);
  await database.query({ text: "UPDATE api_keys SET last_used_at = now() - interval '61 s' WHERE id = $1", values: [apiKey?.id] });
  await gateway.verifyApiKey({ key });
  expect(await used()).toBeGreaterThanOrEqual(first);
});

test("another's key isn't there to be revoked", async () => {
  const [owner, stranger] = [await register(), await register()];
  const { key, apiKey } = await as(owner).createApiKey({ name: "x", scopes: ["orders:read"] });
  for (const apiKeyId of [apiKey?.id as string, randomUUID()])
    expect(await failure(as(stranger).revokeApiKey({ apiKeyId }))).toBe("not_found");
  expect((await as(stranger).listApiKeys({})).apiKeys).toEqual([]);
  expect(await failure(gateway.verifyApiKey({ key }))).toBe("answered");
});

test("a key names services and read or write, ends in the future, and an account has a hundred at the most", async () => {
  const tokens = await register();
  for (const scopes of [[], ["orders"], ["orders:all"], ["*"], ["orders:read", "orders:read"], ["Orders:read"]])
    expect(await failure(as(tokens).createApiKey({ name: "x", scopes }))).toBe("validation_failed");
  expect(await failure(as(tokens).createApiKey({ name: "x", scopes: ["orders:read"], expiresAt: inMs(-1) }))).toBe("expires_in_the_past");
  await database.query({
    text: `INSERT INTO api_keys (id, user_id, name, secret_hash, scopes, created_at) SELECT gen_random_uuid(), $1, 'x', '', 'orders:read', now() FROM generate_series(1, 100)`,
    values: [tokens.userId],
  });
  expect(await failure(as(tokens).createApiKey({ name: "x", scopes: ["orders:read"] }))).toBe("too_many_keys");
});

test("a program makes no keys, whatever the scopes of its own", async () => {
  const { userId } = await register();
  const program = services.client(AuthService, userCaller(userId, { apiKeyId: randomUUID(), scopes: ["auth:write"] }));
  expect(await failure(program.createApiKey({ name: "x", scopes: ["orders:read"] }))).toBe("forbidden");
  expect(await failure(program.listApiKeys({}))).toBe("answered");
});

test("the owner of an account is told of every key, which outlives sessions and passwords", async () => {
  const contact = someEmail();
  await as(await register(contact)).createApiKey({ name: "export", scopes: ["orders:read"] });
  expect((await lettersTo(services, contact)).map(({ template }) => template)).toEqual(["confirm-sign-up", "api-key-created"]);
});
