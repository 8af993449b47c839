import { generateKeyPairSync } from "node:crypto";
import { expect, test } from "vitest";
import { describeSettings, readSettings } from "#platform/config/settings.ts";
import { providers } from "./providers.ts";

const privateKey = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ type: "pkcs8", format: "pem" }).toString();
const rsa = generateKeyPairSync("rsa", { modulusLength: 2_048 }).privateKey.export({ type: "pkcs8", format: "pem" }).toString();
const read = (value: unknown) =>
  readSettings({ AUTH_OAUTH_PROVIDERS: typeof value === "string" ? value : JSON.stringify(value) }, providers.settings);
const faultOf = (value: unknown): string => {
  try {
    read(value);
    return "none";
  } catch (error) {
    return (error as Error).message;
  }
};

const google = { name: "google", clientId: "g.apps.example", clientSecret: "hush-google" };
const apple = { name: "apple", clientId: "com.example", teamId: "TEAM", keyId: "KEY", privateKey };
const vk = { name: "vk", clientId: "51", trustsEmail: true };
const work = { name: "work", issuer: "https://sso.example.com/realms/main", clientId: "polis", clientSecret: "hush-work" };

test("providers are read by their names, and any other by its issuer", () => {
  expect(read([google, apple, vk, work])).toMatchObject({
    list: [
      { kind: "oidc", issuer: "https://accounts.google.com", clientId: "g.apps.example", trustsEmail: false },
      { kind: "apple", teamId: "TEAM" },
      { kind: "vk", clientId: "51", trustsEmail: true },
      { kind: "oidc", issuer: work.issuer },
    ],
  });
  expect(read("")).toMatchObject({ list: [] });
  expect(faultOf([{ ...work, issuer: "http://127.0.0.1:8081" }])).toBe("none");
});

test("no secret is shown, neither in the list of settings nor in a fault", () => {
  const text = JSON.stringify([google, apple, vk, work]);
  const described = describeSettings({ AUTH_OAUTH_PROVIDERS: text }, providers.settings);
  const line = described.find(({ name }) => name === "AUTH_OAUTH_PROVIDERS");
  const masked = [{ ...google, clientSecret: "***" }, { ...apple, privateKey: "***" }, vk, { ...work, clientSecret: "***" }];
  expect(JSON.parse(line?.value ?? "")).toEqual(masked);
  for (const broken of [text.slice(1), text.replace('"name":"google"', '"nam":"google"'), text.replace("TEAM", "")]) {
    const wrong = JSON.stringify(describeSettings({ AUTH_OAUTH_PROVIDERS: broken }, providers.settings));
    for (const told of [JSON.stringify(described), faultOf(broken), wrong]) expect(told).not.toMatch(/hush|PRIVATE KEY/);
  }
});

test.each([
  ["not JSON", "google", "it isn't JSON"],
  ["an object", google, "it isn't a list"],
  ["a list of texts", ["google"], "[0] isn't an object"],
  ["no name", [google, { clientId: "x" }], "[1].name is missing"],
  ["a name that can't stand in a path", [{ ...work, name: "My SSO" }], "[0].name must be a word"],
  ["a field that is missing", [{ name: "google", clientId: "x" }], "[0].clientSecret is missing"],
  ["an empty field", [{ ...google, clientSecret: " " }], "[0].clientSecret must be a text"],
  ["a field that it doesn't have", [{ ...google, issuer: "https://x.example" }], "[0].issuer is no field of google"],
  ["a yes that is a text", [{ ...work, trustsEmail: "yes" }], "[0].trustsEmail must be true or false"],
  ["an issuer without TLS", [{ ...work, issuer: "http://sso.example.com" }], "[0].issuer must be a URL that begins with https://"],
  ["an issuer with a query", [{ ...work, issuer: "https://sso.example.com/?a" }], "[0].issuer must be a URL"],
  ["two of one name", [google, google], "two are named google"],
  ["a key that is none", [{ ...apple, privateKey: "x" }], "[0].privateKey must be the text of Apple's .p8 file"],
  ["a key of another kind", [{ ...apple, privateKey: rsa }], "[0].privateKey must be the text of Apple's .p8 file"],
  ["too many", Array.from({ length: 51 }, (_, n) => ({ ...work, name: `work-${n}` })), "51 providers; 50 at the most"],
])("%s is refused, and the field at fault named", (_, value, fault) => {
  expect(faultOf(value)).toContain("AUTH_OAUTH_PROVIDERS must be a JSON list");
  expect(faultOf(value)).toContain(fault);
});
