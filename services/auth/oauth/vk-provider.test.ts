import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { listen } from "./outside.testing.ts";
import { vkProvider } from "./vk-provider.ts";

/* VK ID as its documentation has it: the real one was not at hand. */

const redirectUri = "https://api.example.com/auth/oauth/vk/callback";
const proof = { verifier: "v".repeat(43), nonce: "n" };
const returned = { state: "s", code: "c", iss: "", deviceId: "d" };

/** A server that answers so, and what it was asked. */
async function startVk(answers: Readonly<Record<string, unknown>>, trustsEmail = false) {
  const asked: [string, Record<string, string>][] = [];
  const { base } = await listen(() => (request, response) => {
    let body = "";
    request.on("data", (chunk: Buffer) => {
      body += chunk.toString();
    });
    request.on("end", () => {
      asked.push([`${request.method} ${request.url}`, Object.fromEntries(new URLSearchParams(body))]);
      response.setHeader("content-type", "application/json").end(JSON.stringify(answers[request.url ?? ""] ?? {}));
    });
  });
  return { provider: vkProvider({ name: "vk", clientId: "51", trustsEmail, redirectUri }, base), asked, base };
}
const good = {
  "/oauth2/auth": { access_token: "t", refresh_token: "r", expires_in: 3_600, user_id: 1234567890, state: "s", scope: "email" },
  "/oauth2/user_info": { user: { user_id: "1234567890", first_name: "Ivan", email: "Ivan@Example.com", verified: false } },
};

test("a browser is sent there with a challenge that only the verifier answers", async () => {
  const { provider, base } = await startVk(good);
  const url = new URL(await provider.authorizationUrl("s", proof));
  expect(url.origin + url.pathname).toBe(`${base}/authorize`);
  expect(Object.fromEntries(url.searchParams)).toEqual({
    response_type: "code",
    client_id: "51",
    redirect_uri: redirectUri,
    scope: "email",
    state: "s",
    code_challenge: createHash("sha256").update(proof.verifier).digest("base64url"),
    code_challenge_method: "S256",
  });
});

test("the code is exchanged with the device's id, and who it is is asked with the token", async () => {
  const { provider, asked } = await startVk(good);
  const user = { issuer: "https://id.vk.com", subject: "1234567890", email: "ivan@example.com", isEmailVerified: false, locale: "ru" };
  expect(await provider.identify(returned, proof)).toEqual({ kind: "user", user });
  const exchange = { grant_type: "authorization_code", code: "c", code_verifier: proof.verifier, client_id: "51" };
  expect(asked).toEqual([
    ["POST /oauth2/auth", { ...exchange, device_id: "d", redirect_uri: redirectUri, state: "s" }],
    ["POST /oauth2/user_info", { client_id: "51", access_token: "t" }],
  ]);
});

test("its addresses count as confirmed where the operator says so", async () => {
  const { provider } = await startVk(good, true);
  expect(await provider.identify(returned, proof)).toMatchObject({ kind: "user", user: { isEmailVerified: true } });
});

test("a code that it doesn't take is refused, another's state isn't trusted, and nonsense means that it is away", async () => {
  const of = async (answers: object) => (await startVk({ ...good, ...answers })).provider.identify(returned, proof);
  expect(await of({ "/oauth2/auth": { error: "invalid_grant", error_description: "code is expired" } })).toEqual({ kind: "refused" });
  expect(await of({ "/oauth2/auth": { access_token: "t", state: "another" } })).toMatchObject({ kind: "untrusted" });
  expect(await of({ "/oauth2/user_info": { user: { user_id: "" } } })).toMatchObject({ kind: "untrusted" });
  for (const answers of [{ "/oauth2/auth": { error: "server_error" } }, { "/oauth2/auth": "x" }, { "/oauth2/user_info": { error: "x" } }])
    await expect(of(answers)).rejects.toThrow(/id\.vk\.com|127\.0\.0\.1/);
});
