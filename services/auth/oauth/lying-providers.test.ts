import { randomUUID } from "node:crypto";
import type { ServerResponse } from "node:http";
import pino from "pino";
import { expect, test } from "vitest";
import { readSettings } from "#platform/config/settings.ts";
import { freePort } from "#platform/process/free-port.testing.ts";
import { testServicesWith } from "#platform/process/services.testing.ts";
import { failure, someEmail, tokensIn } from "../auth.testing.ts";
import { authService } from "../service.ts";
import { type Lie, startLyingProvider } from "./lying.testing.ts";
import { oauthClients } from "./oauth.testing.ts";
import { CLIENT } from "./outside.testing.ts";
import { providers } from "./providers.ts";

const REQUEST_MS = 3_000;

const provider = await startLyingProvider();
const [late, trusted, elsewhere] = [await startLyingProvider(), await startLyingProvider(), await startLyingProvider()];
const list = [
  { name: "liar", issuer: provider.issuer },
  { name: "late", issuer: late.issuer },
  { name: "trusted", issuer: trusted.issuer, trustsEmail: true },
  { name: "elsewhere", issuer: elsewhere.issuer },
  { name: "gone", issuer: `http://127.0.0.1:${await freePort()}` },
];
const services = await testServicesWith(
  { environment: { AUTH_OAUTH_PROVIDERS: JSON.stringify(list.map((each) => ({ ...each, ...CLIENT }))) } },
  authService,
);
const { guest } = oauthClients(services);

async function signIn(lie: Lie, came: { readonly iss?: string } = {}, name = "liar", from = provider) {
  from.says({});
  const flow = await guest.beginOauth({ provider: name });
  from.says(lie);
  return guest.signInWithOauth({ flowSecret: flow.flowSecret, ...from.visit(flow.authorizationUrl), ...came });
}
const someone = () => ({ sub: randomUUID(), email: someEmail().value });
const silence = (): void => undefined;
const sends = (status: number, body: unknown) => (answer: ServerResponse) =>
  void answer.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));

test("who is told rightly signs in; the code goes with its verifier, to the way back that was named", async () => {
  expect(tokensIn(await signIn({ claims: someone() })).userId).toBeDefined();
  const exchange = Object.fromEntries(provider.exchanges.at(-1) ?? []);
  expect(exchange).toMatchObject({ grant_type: "authorization_code", code: "any", code_verifier: expect.stringMatching(/^.{43}$/) });
  expect(exchange).toMatchObject({ redirect_uri: "http://127.0.0.1:8080/auth/oauth/liar/callback", client_secret: CLIENT.clientSecret });
});

test("a token for another, of another, from before, not signed or signed by another is not trusted", async () => {
  const lies: Lie[] = [
    { claims: { nonce: "another" } },
    { claims: { nonce: undefined } },
    { claims: { iss: "https://another.example" } },
    { claims: { aud: "another" } },
    { claims: { aud: [CLIENT.clientId, "another"], azp: "another" } },
    { claims: { exp: Math.floor(Date.now() / 1000) - 600 } },
    { claims: { sub: "" } },
    { claims: { sub: "x".repeat(256) } },
    { claims: { sub: "\u0000" } },
    { claims: { sub: 7 } },
    { isForged: true },
    { header: { alg: "none" } },
    { header: { kid: "another" } },
  ];
  for (const lie of lies)
    expect([lie, await failure(signIn({ ...lie, claims: { ...someone(), ...lie.claims } }))]).toEqual([lie, "provider_not_trusted"]);
});

test("an answer that says it is of another provider, or doesn't say whose it is, is not trusted, and no code goes anywhere", async () => {
  const before = provider.exchanges.length;
  for (const iss of ["https://another.example", ""]) expect(await failure(signIn({}, { iss }))).toBe("provider_not_trusted");
  expect(provider.exchanges).toHaveLength(before);
});

test("what the provider tells of somebody else if asked isn't taken", async () => {
  const { sub } = someone();
  const userinfo = { sub: "somebody else", email: someEmail().value, email_verified: true };
  expect(await failure(signIn({ claims: { sub, email: undefined }, userinfo }))).toBe("provider_not_trusted");
  expect(await failure(signIn({ claims: { sub, email: undefined }, userinfo: { ...userinfo, sub } }))).toBe("answered");
});

test("an address counts as confirmed where the provider says so, as a text as well, or the operator does", async () => {
  expect(await failure(signIn({ claims: { ...someone(), email_verified: "true" } }))).toBe("answered");
  for (const said of ["false", 1, undefined, {}])
    expect(await failure(signIn({ claims: { ...someone(), email_verified: said } }))).toBe("email_unverified");
  expect(await failure(signIn({ claims: { ...someone(), email_verified: undefined } }, { iss: trusted.issuer }, "trusted", trusted))).toBe(
    "answered",
  );
});

test("the same subject of another provider is somebody else", async () => {
  const { sub } = someone();
  const first = tokensIn(await signIn({ claims: { sub, email: someEmail().value } }));
  const claims = { sub, email: someEmail().value };
  expect(tokensIn(await signIn({ claims }, { iss: trusted.issuer }, "trusted", trusted)).userId).not.toBe(first.userId);
});

test("a provider that refuses the code says so; one that doesn't take us for its client, or fails, is unavailable", async () => {
  expect(await failure(signIn({ exchange: sends(400, { error: "invalid_grant" }) }))).toBe("provider_refused");
  expect(await failure(signIn({ exchange: sends(200, "nonsense") }))).toBe("provider_not_trusted");
  const noes = [sends(401, { error: "invalid_client" }), sends(500, {}), sends(302, {})];
  const cut = (answer: ServerResponse): void => void answer.destroy();
  for (const exchange of [...noes, cut]) expect(await failure(signIn({ exchange }))).toBe("provider_unavailable");
});

test("an answer without an end is read so far as any is long, and not until it is late", async () => {
  const endless = (answer: ServerResponse): void => {
    answer.writeHead(200, { "content-type": "application/json" });
    const more = (): void => {
      while (!answer.destroyed && answer.write(" ".repeat(65_536)));
      if (!answer.destroyed) answer.once("drain", more);
    };
    more();
  };
  const startedMs = performance.now();
  expect(await failure(signIn({ exchange: endless }))).toBe("provider_unavailable");
  expect(performance.now() - startedMs).toBeLessThan(REQUEST_MS / 2);
});

test("one that is silent is waited for a few seconds, and one that isn't there not at all; both stop nobody else", async () => {
  const startedMs = performance.now();
  const silent = failure(signIn({ exchange: silence }, {}, "liar"));
  expect(await failure(guest.beginOauth({ provider: "gone" }))).toBe("provider_unavailable");
  expect(await failure(guest.beginOauth({ provider: "trusted" }))).toBe("answered");
  expect(performance.now() - startedMs).toBeLessThan(REQUEST_MS);
  expect(await silent).toBe("provider_unavailable");
  expect(performance.now() - startedMs).toBeLessThan(2 * REQUEST_MS);
});

test("what isn't found at first is found once it is there, is asked for by many at once, and then not again", async () => {
  const discovery = "/.well-known/openid-configuration";
  const times = () => late.asked.filter((path) => path === discovery).length;
  const begin = () => failure(guest.beginOauth({ provider: "late" }));
  late.says({ discovery: sends(503, {}) });
  expect(await Promise.all([begin(), begin(), begin()])).toEqual(Array.from({ length: 3 }, () => "provider_unavailable"));
  expect(times()).toBe(1);
  late.says({});
  await expect.poll(begin, { timeout: 5_000 }).toBe("answered");
  const found = times();
  expect(await Promise.all([begin(), begin()])).toEqual(["answered", "answered"]);
  expect(times()).toBe(found);
});

test("one that says it is another is not taken", async () => {
  elsewhere.says({ discovery: sends(200, { issuer: "https://another.example", authorization_endpoint: "https://another.example/" }) });
  expect(await failure(guest.beginOauth({ provider: "elsewhere" }))).toBe("provider_unavailable");
});

test("the log tells why a provider isn't trusted or away, and nothing of its user, nor a secret", async () => {
  const lines: string[] = [];
  const settings = readSettings(
    { AUTH_OAUTH_PROVIDERS: JSON.stringify([{ name: "liar", issuer: provider.issuer, ...CLIENT }]) },
    providers.settings,
  );
  const log = pino({ level: "warn" }, { write: (line: string) => void lines.push(line) });
  const opened = await providers.open({ settings, log } as unknown as Parameters<typeof providers.open>[0]);
  const proof = { verifier: "v".repeat(43), nonce: "a nonce" };
  const lies: Lie[] = [{ claims: { nonce: "another" } }, { claims: { aud: "another" } }, { isForged: true }];
  lies.push({ exchange: sends(401, { error: "invalid_client", error_description: "wrong secret" }) }, { exchange: sends(500, {}) });
  for (const lie of lies) {
    provider.says(lie);
    const came = provider.visit((await opened.authorizationUrl("liar", "state", proof)) ?? "");
    await opened.identify("liar", { ...came, code: "a-code", deviceId: "" }, proof).catch(() => undefined);
  }
  expect(lines).toHaveLength(lies.length);
  const all = lines.join("\n");
  expect(all).toContain("unexpected JWT claim value");
  expect(all).toContain("signature");
  expect(all).toContain("answers 401 invalid_client");
  expect(all).toContain("answers 500");
  expect(all).not.toMatch(/user@example|a-code|vvvv|a nonce|a secret between/);
});
