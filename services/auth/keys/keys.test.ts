import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { createLocalJWKSet, jwtVerify } from "jose";
import { expect, test, vi } from "vitest";
import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { RotateKeysSchema } from "#contracts/polis/auth/v1/tasks_pb.ts";
import { nobody, serviceCaller } from "#platform/access/caller.ts";
import { secretsOf } from "#platform/access/secrets.ts";
import { systemClock } from "#platform/clock.ts";
import { testDatabase, testDatabaseConnection, testLog } from "#platform/postgres/database.testing.ts";
import { openDatabase } from "#platform/postgres/open-database.ts";
import { migrationsOf } from "#platform/process/host-service.ts";
import { openResources } from "#platform/process/resources.ts";
import { testSecrets, testServices } from "#platform/process/services.testing.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { insertStatement } from "#platform/writes/table-statements.ts";
import { authClients, someEmail } from "../auth.testing.ts";
import { authService } from "../service.ts";
import { revocations } from "../tables.ts";
import { signingKeys } from "./signing-keys.ts";
import { tokenNews } from "./token-news.ts";

const services = await testServices(authService);
await services.begin();
const database = services.database("auth");
const { guest, register } = authClients(services);
const DAY_MS = 86_400_000;

const jsonOf = async (method: "getJwks" | "getOpenidConfiguration") =>
  JSON.parse(Buffer.from((await services.client(AuthService, nobody)[method]({})).data).toString());

/** Opens the keys alone, as a process of auth under these secrets does. */
async function openKeys(on = database, secrets = testSecrets) {
  const { use, close } = await openResources(
    { name: "auth", resources: [signingKeys] },
    {
      settings: { "auth.signing-keys": { publicUrl: "http://127.0.0.1:8080" } },
      database: on,
      secrets,
      clock: systemClock,
      log: testLog,
      metrics: new Metrics(),
    },
  );
  return { keys: use(signingKeys), close };
}
const fresh = () => testDatabase({ migrations: migrationsOf(authService).map(({ folder }) => folder) });

test("whoever has the issuer's URL alone can verify an access token", async () => {
  const tokens = await register();
  const { issuer, jwks_uri: uri } = await jsonOf("getOpenidConfiguration");
  expect(uri).toBe(`${issuer}/.well-known/jwks.json`);
  const jwks = await jsonOf("getJwks");
  const { payload, protectedHeader } = await jwtVerify(tokens.accessToken, createLocalJWKSet(jwks), { issuer, audience: "polis" });
  expect(payload.sub).toBe(tokens.userId);
  expect(protectedHeader).toMatchObject({ alg: "ES256", typ: "at+jwt" });
  for (const key of jwks.keys) expect(Object.keys(key).sort()).toEqual(["alg", "crv", "kid", "kty", "use", "x", "y"]);
});

test("an access token tells nothing of its person but an id", async () => {
  const contact = someEmail();
  const { accessToken } = await register(contact);
  expect(Buffer.from(accessToken.split(".")[1] ?? "", "base64url").toString()).not.toContain(contact.value);
});

test("processes that start at once make one key", async () => {
  const on = await fresh();
  const opened = await Promise.all([openKeys(on), openKeys(on), openKeys(on)]);
  expect(new Set(opened.map(({ keys }) => keys.jwks())).size).toBe(1);
  expect(JSON.parse(opened[0]!.keys.jwks()).keys).toHaveLength(1);
  for (const { close } of opened) await close();
});

test("a private key can't be read from its row", async () => {
  const { rows } = await database.query<{ key: Uint8Array }>({ text: "SELECT private_key AS key FROM signing_keys" });
  for (const { key } of rows) {
    expect(Buffer.from(key).includes(Buffer.from("2a8648ce3d0201", "hex"))).toBe(false);
    expect(key.length).toBeGreaterThan(100);
  }
});

test("under another secret the keys are others, unless the one before counts as well", async () => {
  const on = await fresh();
  const next = "another secret of thirty-two characters at least";
  const before = await openKeys(on);
  const [kid] = JSON.parse(before.keys.jwks()).keys.map((key: { kid: string }) => key.kid);
  const [current] = ["a secret of the tests, of thirty-two characters and more"];
  const both = await openKeys(on, secretsOf([next, current as string]));
  expect(both.keys.jwks()).toContain(kid);
  const after = await openKeys(on, secretsOf([next]));
  expect(after.keys.jwks()).not.toContain(kid);
  expect(JSON.parse(after.keys.jwks()).keys).toHaveLength(1);
  for (const { close } of [before, both, after]) await close();
});

test("a key that has grown old gets a successor, which is published before it signs; tokens of before are verified by theirs", async () => {
  await database.query({ text: "UPDATE signing_keys SET signs_from = signs_from - interval '31 days'" });
  const old = await register();
  await services.enqueue("auth", RotateKeysSchema, { olderThan: { seconds: 30n * 86_400n } });
  await services.enqueue("auth", RotateKeysSchema, { olderThan: { seconds: 30n * 86_400n } });
  await services.quiet();
  const { keys, close } = await openKeys();
  const published = JSON.parse(keys.jwks()).keys as { kid: string }[];
  expect(published).toHaveLength(2);
  const kidAt = (ms: number) =>
    JSON.parse(
      Buffer.from(keys.sign({ sub: "x", sid: "y", ver: 1, roles: [], mfa: false }, ms).split(".")[0] ?? "", "base64url").toString(),
    ).kid;
  expect(kidAt(Date.now())).toBe(published[0]?.kid);
  expect(kidAt(Date.now() + DAY_MS)).toBe(published[1]?.kid);
  await jwtVerify(old.accessToken, createLocalJWKSet(JSON.parse(keys.jwks())), { audience: "polis" });
  await close();
});

test("who watches hears the keys and the revocations that count, then new ones, and several times a second that there are none", async () => {
  // A key that was made just now is told as soon as it is found.
  const { rowCount: keyCount } = await database.query({ text: "SELECT FROM signing_keys" });
  await vi.waitFor(async () => expect((await jsonOf("getJwks")).keys).toHaveLength(keyCount), 10_000);
  const gateway = services.client(AuthService, serviceCaller("gateway"));
  const session = await register();
  const signal = AbortSignal.timeout(20_000);
  const heard: { sessions: unknown[]; jwks: boolean; atMs: number }[] = [];
  const note = ({ revocations: said, jwks }: { revocations: { of: { value?: unknown } }[]; jwks: string }) =>
    void heard.push({ sessions: said.map(({ of }) => of.value), jwks: jwks !== "", atMs: performance.now() });
  const stop = new AbortController();
  const watching = (async () => {
    for await (const news of gateway.watchTokens(
      {},
      { timeoutMs: Number.POSITIVE_INFINITY, signal: AbortSignal.any([stop.signal, signal]) },
    ))
      note(news);
  })().catch(() => undefined);
  await vi.waitFor(() => expect(heard.length).toBeGreaterThan(3), 5_000);
  expect(heard[0]?.jwks).toBe(true);
  expect(heard.slice(1).some(({ jwks }) => jwks)).toBe(false);
  await guest.refresh({ refreshToken: session.refreshToken });
  await database.query({
    text: "UPDATE sessions SET last_used_at = last_used_at - interval '1 min' WHERE id = $1",
    values: [session.sessionId],
  });
  await guest.refresh({ refreshToken: session.refreshToken }).catch(() => undefined);
  await vi.waitFor(() => expect(heard.flatMap(({ sessions }) => sessions)).toContain(session.sessionId), 5_000);
  const count = heard.length;
  await vi.waitFor(() => expect(heard.length).toBeGreaterThan(count + 4), 5_000);
  expect(heard.flatMap(({ sessions }) => sessions).filter((id) => id === session.sessionId)).toHaveLength(1);
  stop.abort();
  await watching;
});

test("a revocation that commits after later ones is told, once", async () => {
  const row = (id: string) => ({
    id,
    sessionId: id,
    userId: undefined,
    apiKeyId: undefined,
    versionMin: 0,
    expiresAt: timestampFromMs(Date.now() + 60_000),
  });
  const [late, early] = ["0191f0a0-0000-7000-8000-00000000000a", "0191f0a0-0000-7000-8000-00000000000b"];
  const { use, close } = await openResources(
    { name: "auth", resources: [tokenNews] },
    { settings: {}, database, secrets: testSecrets, clock: systemClock, log: testLog, metrics: new Metrics() },
  );
  const stop = new AbortController();
  const told: string[] = [];
  let looks = 0;
  const watching = (async () => {
    for await (const { revoked } of use(tokenNews).watch(stop.signal)) {
      looks += 1;
      told.push(...revoked.map(({ id }) => id));
    }
  })();
  const looksMore = async (): Promise<void> => {
    const from = looks;
    await vi.waitFor(() => expect(looks).toBeGreaterThan(from + 1), 5_000);
  };
  const inserted = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  const holding = database.transaction(async (tx) => {
    await tx.query(insertStatement(revocations, [row(late)], false));
    inserted.resolve();
    await gate.promise;
  });
  await inserted.promise;
  await database.query(insertStatement(revocations, [row(early)], false));
  await looksMore();
  expect(told.filter((id) => [late, early].includes(id))).toEqual([early]);
  gate.resolve();
  await holding;
  await vi.waitFor(() => expect(told).toContain(late), 5_000);
  await looksMore();
  expect(told.filter((id) => [late, early].includes(id))).toEqual([early, late]);
  stop.abort();
  await watching;
  await close();
});

test("who begins to watch after a storm of sign-outs hears of all of them, though they are more than one message holds", async () => {
  const storm = await testServices(authService);
  await storm.database("auth").query({
    text: `INSERT INTO revocations (id, session_id, version_min, expires_at)
           SELECT gen_random_uuid(), gen_random_uuid(), 0, now() + interval '11 minutes' FROM generate_series(1, 100000)`,
  });
  let heard = 0;
  for await (const { revocations: some } of storm.client(AuthService, serviceCaller("gateway")).watchTokens({})) {
    heard += some.length;
    if (heard >= 100_000) break;
  }
  expect(heard).toBe(100_000);
});

test("a watch rejects when the database is away, and so doesn't tell for ever that nothing is", async () => {
  const connection = await testDatabaseConnection(migrationsOf(authService).map(({ folder }) => folder));
  const behind = await openDatabase({ connection, name: "test", maxConnections: 2, log: testLog, metrics: new Metrics() });
  const { use, close } = await openResources(
    { name: "auth", resources: [tokenNews] },
    { settings: {}, database: behind, secrets: testSecrets, clock: systemClock, log: testLog, metrics: new Metrics() },
  );
  let looks = 0;
  const watching = (async () => {
    for await (const _ of use(tokenNews).watch(AbortSignal.timeout(30_000))) looks += 1;
  })();
  watching.catch(() => undefined);
  await vi.waitFor(() => expect(looks).toBeGreaterThan(1), 5_000);
  await database.query({ text: `ALTER DATABASE ${connection.database} ALLOW_CONNECTIONS false` });
  await database.query({
    text: "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1",
    values: [connection.database],
  });
  await expect(watching).rejects.toThrow(/terminat|not currently accepting connections|connection/i);
  await close();
  await behind.close();
});

test("who may not watch is turned away", async () => {
  const watch = async () => {
    for await (const _ of services.client(AuthService, serviceCaller("orders")).watchTokens({})) return "heard";
    return "ended";
  };
  await expect(watch()).rejects.toMatchObject({ code: "forbidden" });
});
