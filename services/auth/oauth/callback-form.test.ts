import { expect, test } from "vitest";
import { testServicesWith } from "#platform/process/services.testing.ts";
import { failure } from "../auth.testing.ts";
import { authService } from "../service.ts";
import { startLyingProvider } from "./lying.testing.ts";
import { oauthClients } from "./oauth.testing.ts";
import { CLIENT } from "./outside.testing.ts";

const provider = await startLyingProvider();
const list = [{ name: "posts", issuer: provider.issuer, ...CLIENT }];
const services = await testServicesWith({ environment: { AUTH_OAUTH_PROVIDERS: JSON.stringify(list) } }, authService);
const { guest } = oauthClients(services);
const FORM = "application/x-www-form-urlencoded";
const back = (contentType: string, data: string) =>
  guest.returnFromProvider({ provider: "posts", form: { contentType, data: Buffer.from(data) } });

test("a provider that sends a form is understood as one that sends a query", async () => {
  const { authorizationUrl } = await guest.beginOauth({ provider: "posts", returnTo: "/back" });
  const { state } = provider.visit(authorizationUrl);
  const form = new URLSearchParams({ state, code: "c&d", user: '{"name":{}}' }).toString();
  for (const contentType of [FORM, `${FORM}; charset=UTF-8`])
    expect((await back(contentType, form)).location).toBe(`http://127.0.0.1:8080/back?state=${state}&code=c%26d`);
  const no = await back(FORM, new URLSearchParams({ state, error: "user_cancelled_authorize" }).toString());
  expect(no.location).toBe(`http://127.0.0.1:8080/back?state=${state}&error=user_cancelled_authorize`);
});

test("what is no form, has no state, or too much in it is refused", async () => {
  const { authorizationUrl } = await guest.beginOauth({ provider: "posts" });
  const { state } = provider.visit(authorizationUrl);
  expect(await failure(back("application/json", `state=${state}&code=c`))).toBe("invalid_flow");
  expect(await failure(back(`${FORM}x`, `state=${state}&code=c`))).toBe("invalid_flow");
  expect(await failure(back(FORM, ""))).toBe("invalid_flow");
  expect(await failure(back(FORM, `state=${state}&code=${"c".repeat(4_097)}`))).toBe("invalid_flow");
  expect((await back(FORM, `state=${state}&code=c`)).code).toBe("c");
});
