import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { freePort } from "#platform/process/free-port.testing.ts";
import { browser, CLIENT, startOidcProvider } from "../services/auth/oauth/outside.testing.ts";
import { mailboxAt } from "./support/mailbox.ts";
import { restOf } from "./support/rest-client.ts";
import { testDatabases } from "./support/test-databases.ts";
import { startTestPolis } from "./support/test-polis.ts";

/* Users of an outside provider, by a browser and REST alone. */

type Tokens = { readonly accessToken: string; readonly userId: string };
type Flow = { readonly authorizationUrl: string; readonly flowSecret: string };

const PUBLIC_URL = "https://api.example.com";
const { issuer, people } = await startOidcProvider([`${PUBLIC_URL}/auth/oauth/work/callback`]);
const port = await freePort();
const mailbox = mailboxAt(port);
const environment = {
  MAILBOX_PORT: String(port),
  POLIS_PUBLIC_URL: PUBLIC_URL,
  AUTH_OAUTH_PROVIDERS: JSON.stringify([
    { name: "work", issuer, ...CLIENT },
    { name: "gone", issuer: `http://127.0.0.1:${await freePort()}`, ...CLIENT },
  ]),
  AUTH_OAUTH_RETURN_ORIGINS: "https://app.example.com",
};
const polis = await startTestPolis(await testDatabases(), { environment });
const guest = polis.rest();
const as = ({ accessToken }: Tokens) => restOf(polis.http, { authorization: `Bearer ${accessToken}` });

/** Somebody's browser goes through the provider; gives the address at which it arrives in the end, and what was answered on its way. */
async function arrive(flow: Flow, login: string, more = "") {
  const back = await browser().signIn(flow.authorizationUrl, login, PUBLIC_URL);
  const answer = await fetch(`${polis.http}${back.pathname}${back.search}${more}`, { redirect: "manual" });
  return { back, answer, location: answer.headers.get("location") };
}
const begin = async (returnTo: string): Promise<Flow> =>
  (await guest.call<Flow>("GET", `/auth/oauth/work?return_to=${encodeURIComponent(returnTo)}`)).body;
const finish = ({ flowSecret }: Flow, location: string | null) => ({
  flowSecret,
  ...Object.fromEntries(new URL(location ?? "").searchParams),
});

test("a user of a provider signs in through the browser, orders, links a second one, and is told of it", async () => {
  const [login, email] = [randomUUID(), `${randomUUID()}@example.com`];
  people.set(login, { email, email_verified: true });
  expect((await guest.call("GET", "/auth/oauth")).body).toEqual({ providers: ["work", "gone"] });
  const flow = await begin("https://app.example.com/signed-in");
  // Providers add to what they send as they like.
  const { answer, location } = await arrive(flow, login, "&session_state=x&authuser=0");
  expect(answer.status).toBe(303);
  expect(location).toMatch(/^https:\/\/app\.example\.com\/signed-in\?state=[^&]+&code=[^&]+&iss=[^&]+$/);
  const { status, body } = await guest.call<{ tokens: Tokens }>("POST", "/auth/sign-in/oauth", { body: finish(flow, location) });
  expect(status).toBe(200);
  const { tokens } = body;
  expect((await as(tokens).openAccount({ currency: "RUB" })).status).toBe(201);
  expect((await guest.call("POST", "/auth/sign-in/oauth", { body: finish(flow, location) })).body.code).toBe("invalid_flow");

  const { body: link } = await as(tokens).call<Flow>("POST", "/auth/oauth/work/link", { body: { returnTo: "/settings" } });
  const linked = await arrive(link, randomUUID());
  expect(linked.location?.startsWith(`${PUBLIC_URL}/settings?`)).toBe(true);
  const added = await as(tokens).call<{ id: string }>("POST", "/auth/identities", { body: finish(link, linked.location) });
  expect([added.status, added.body]).toMatchObject([201, { provider: "work" }]);
  const identities = async () => (await as(tokens).call<{ identities: object[] }>("GET", "/auth/identities")).body.identities;
  expect(await identities()).toHaveLength(2);
  expect((await as(tokens).call("DELETE", `/auth/identities/${added.body.id}`)).status).toBe(204);
  expect(await identities()).toHaveLength(1);
  const letters = async () => (await mailbox.lettersTo(email)).map(({ subject }) => subject);
  const told = ["Your account has another way to sign in", "Your account has one way less to sign in"];
  await expect.poll(letters, { timeout: 10_000 }).toEqual(expect.arrayContaining(told));
});

test("a provider may send a form, and a browser that nobody has sent there goes nowhere", async () => {
  const flow = await begin("/signed-in");
  const back = await browser().signIn(flow.authorizationUrl, randomUUID(), PUBLIC_URL);
  const post = (body: URLSearchParams) => fetch(`${polis.http}${back.pathname}`, { method: "POST", body, redirect: "manual" });
  const sent = await post(back.searchParams);
  expect([sent.status, sent.headers.get("location")]).toEqual([
    303,
    `${PUBLIC_URL}/signed-in${back.search.replace(/code=([^&]*)&state=([^&]*)/, "state=$2&code=$1")}`,
  ]);
  const forged = await post(new URLSearchParams({ state: "forged", code: "x" }));
  expect([forged.status, forged.headers.get("location")]).toEqual([401, null]);
  const refused = await guest.call("GET", "/auth/oauth/work?return_to=https%3A%2F%2Fevil.example");
  expect([refused.status, refused.body.code]).toEqual([400, "return_to_not_allowed"]);
});

test("a provider that is away is so for who signs in by it; auth itself doesn't count as away", async () => {
  for (let times = 0; times < 15; times += 1) {
    const { status, headers, body } = await guest.call("GET", "/auth/oauth/gone");
    expect([status, headers["retry-after"], body.code]).toEqual([503, "2", "provider_unavailable"]);
  }
  expect((await guest.call("GET", "/auth/oauth/work")).status).toBe(200);
});
